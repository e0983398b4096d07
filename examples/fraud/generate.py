"""Applications for an account, made up: the columns and prices of a public data set, none of its
rows.

What is true in it by construction: a fraud has a lower income, asks for more credit, comes through
a browser of a certain kind from a busy zip code, uses free mail, has no valid phone at home, and
does not keep the session alive; each of these only more often than a good customer, and a little
more so from month to month, as fraud does.
"""

import numpy as np

MONTHS = 8
SYSTEMS = ("linux", "macintosh", "other", "windows", "x11")
JOBS = ("CA", "CB", "CC", "CD")


def applications(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """{column: (count,)}, with `month` (0 to 7) and `fraud`; three in ten are frauds."""
    random = np.random.default_rng(seed)
    fraud = random.random(count) < 0.3
    month = random.integers(0, MONTHS, count)
    drift = 0.1 * month / MONTHS * fraud

    def yes(good: float, bad: float) -> np.ndarray:
        return (random.random(count) < np.where(fraud, bad, good) + drift).astype(np.int64)

    def word(names: tuple[str, ...], good: list[float], bad: list[float]) -> np.ndarray:
        picked = [random.choice(names, count, p=shares) for shares in (good, bad)]
        return np.where(fraud, picked[1], picked[0])

    income = np.clip(np.round(random.beta(3 - 1.2 * fraud, 2 + 0.6 * fraud), 1), 0.1, 0.9)
    limit = random.choice([200.0, 500.0, 1000.0, 1500.0, 2000.0], count)
    limit = np.where(fraud & (random.random(count) < 0.5), np.maximum(limit, 1000.0), limit)
    return {
        "income": income,
        "name_email_similarity": np.round(random.beta(2.5 - fraud, 2 + fraud), 3),
        "foreign_request": yes(0.03, 0.12),
        "device_os": word(SYSTEMS, [0.3, 0.2, 0.25, 0.2, 0.05], [0.1, 0.1, 0.2, 0.55, 0.05]),
        "source": word(("INTERNET", "TELEAPP"), [0.97, 0.03], [0.93, 0.07]),
        "email_is_free": yes(0.5, 0.75),
        "zip_count_4w": np.clip(random.poisson(4 + 1.5 * fraud), 0, 9),
        "keep_alive_session": 1 - yes(0.35, 0.7),
        "phone_home_valid": 1 - yes(0.4, 0.75),
        "phone_mobile_valid": 1 - yes(0.1, 0.2),
        "device_distinct_emails_8w": np.clip(random.poisson(0.15 + 0.4 * fraud) + 1, 0, 3),
        "proposed_credit_limit": limit,
        "employment_status": word(JOBS, [0.6, 0.2, 0.1, 0.1], [0.7, 0.1, 0.15, 0.05]),
        "customer_age": np.clip(10 * random.poisson(3 + fraud), 10, 80),
        "month": month,
        "fraud": fraud.astype(np.int64),
    }
