"""The CSS, pictures and plots that reports and pages share; nothing comes from another host."""

from buckler.look.images import data_uri, difference_uri
from buckler.look.plots import curves, plotly_script
from buckler.look.style import stylesheet

__all__ = ["curves", "data_uri", "difference_uri", "plotly_script", "stylesheet"]
