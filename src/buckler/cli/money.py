"""The TOML file of prices and traffic for `buckler report compare --money`."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buckler.assess.report.money import Terms
from buckler.errors import DataError
from buckler.ops.impact import Prices, Traffic

_Amount = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PricesSection(_Section):
    """As `buckler.ops.impact.Prices`."""

    missed: _Amount
    review: _Amount
    false_alarm: _Amount
    minutes: _Amount = 3.0
    unit: str = "EUR"


class TrafficSection(_Section):
    """volume: inputs a week; attacks: (attacks, inputs looked at)."""

    volume: Annotated[float, Field(gt=0)]
    attacks: tuple[int, int]


class RunSection(_Section):
    """One endpoint; prices and traffic of its own in place of the file's."""

    path: Path
    name: str = ""
    prices: PricesSection | None = None
    traffic: TrafficSection | None = None


class Money(_Section):
    prices: PricesSection | None = None
    traffic: TrafficSection | None = None
    runs: tuple[RunSection, ...] = ()

    def terms(self, run: RunSection | None = None) -> Terms:
        """Of one run of the file, or of one that it does not name.

        Raises: DataError if it has no prices or no traffic.
        """
        prices = self.prices if run is None or run.prices is None else run.prices
        traffic = self.traffic if run is None or run.traffic is None else run.traffic
        if prices is None or traffic is None:
            raise DataError(
                "money needs [prices] and [traffic], of the file or of each run: no amount is told "
                "without its inputs"
            )
        return Terms(Traffic(**traffic.model_dump()), Prices(**prices.model_dump()))


def read_money(path: Path) -> Money:
    """Paths in it are relative to its folder.

    Raises: DataError naming the key, what was given and what is allowed.
    """
    try:
        found = Money.model_validate(tomllib.loads(Path(path).read_text()))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}. Got {first['input']!r}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as TOML: {error}") from None
    folder = Path(path).resolve().parent
    runs = tuple(run.model_copy(update={"path": folder / run.path}) for run in found.runs)
    return found.model_copy(update={"runs": runs})
