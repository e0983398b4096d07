"""Is this evaluation to be believed? 28 checks, told as six questions.

`run.py` puts them together; a file a question: arrives, true, converged (with binarized and
selftest), others, chance, deployed; `reporting` has the rules of the report. `scene.py` is what all
look at, `second_look.py` what rows get that another attacker broke.
"""

from buckler.assess.battery.check import QUESTIONS, Battery, Check, Naive
from buckler.assess.battery.naive import naive_test
from buckler.assess.battery.reporting import report_rules
from buckler.assess.battery.run import battery
from buckler.assess.battery.scene import Effort

__all__ = [
    "QUESTIONS",
    "Battery",
    "Check",
    "Effort",
    "Naive",
    "battery",
    "naive_test",
    "report_rules",
]
