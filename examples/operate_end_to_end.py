"""The life of a guarded classifier, in some minutes: attacked, reviewed, retrained, rolled out.

    pip install -c constraints.txt -e '.[serve,client]'
    python examples/operate_end_to_end.py [FOLDER]

On scikit-learn's handwritten digits. One gateway in this process, asked over HTTP alone; every
training is a process of its own. What happens:

1. Bundle A serves, and its alarms are quiet.
2. Attackers with 40 keys send what training never knew: black is white. A page, and an alert. One
   more asks for one digit again and again, a little changed: named as a suspect.
3. Two reviewers decide what was SUSPICIOUS; a retrain is owed, and makes bundle B.
4. B is rolled out, 10 → 50 → 100 % of clients, by evidence. The same attack again.
5. Bundle C flags a third of everything, and goes again by itself.
6. A poisoner, with both reviewers on their side: at the door, and where somebody left it open.

Ends with exit code 1 if a promise was not kept. Nothing is downloaded. The rollout's policy scales
half hours down to seconds and margins up, for some hundred rows; no step is skipped.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import httpx2
from operate_service import (
    Gateway,
    Json,
    Story,
    alerts_heard,
    buckler,
    make,
    new_keys,
    review,
    run,
    send,
    write_data,
    write_settings,
)

from buckler.cli.project import Project
from buckler.cli.reviewed import at_the_door, report
from buckler.serve import Background, Settings

CLIENTS, ATTACKERS = 100, 40
USUAL = {
    "epochs": 6,
    "review_rate": 0.05,
    "success": 0.7,
    "accuracy_ratio": 0.8,
    "most_reviewed": 0.3,
}
# Of somebody in a hurry, who loosened the deployment check until it passed.
LAX = {"review_rate": 0.4, "success": 1.0, "accuracy_ratio": 0.1, "most_reviewed": 1.0}
OPEN = "[retrain]\nclient_share = 1.0\nclass_share = 1.0\ncopies = 5\n"
ROLLOUT = {
    "min_s": [2, 4, 4, 4],
    "min_pairs": 300,
    "min_golden": 30,
    "min_requests": 20,
    "tolerance": 0.03,
    "fewer": 0.05,
    "margin": 0.1,
    "probes_per_s": 100,
    "slow_s": 5,
}


def attacked(story: Story, a: Path) -> None:
    story.chapter("1. Bundle A serves")
    quiet = send(story.gateway, story.clients, story.traffic.clean)
    story.says(f"clean: {quiet}")
    time.sleep(3)  # the alarms look every two seconds
    story.promise("no alarm pages on clean inputs", not pages(story))
    story.promise("no retrain is owed", not story.owed(a))
    story.chapter(f"2. The attack, through {ATTACKERS} keys")
    story.first = send(story.gateway, story.clients[:ATTACKERS], story.traffic.first_wave)
    story.says(f"attack: {story.first}")
    paged = story.until(lambda: bool(pages(story)), 60)
    story.promise("an alarm pages", paged)
    for alert in pages(story):
        story.says(f"{alert['title']} {alert['facts']}")
    told = story.until(lambda: any(map(is_page, story.heard)), 60)
    story.promise("the alert arrives at the webhook", told)
    for body in filter(is_page, story.heard):
        notes = body["commonAnnotations"]
        story.says(f"{notes['action']} Runbook: {notes['runbook_url']}")
    send(story.gateway, story.clients[-1:], story.traffic.near)
    known = story.until(lambda: bool(suspects(story)), 60)
    story.promise("a client who asks for one digit again and again is named", known)
    story.look(story, "attacked")


def suspects(story: Story) -> list[Json]:
    found: list[Json] = story.gateway.get("/v1/suspects")["suspects"]
    return found


def pages(story: Story) -> list[Json]:
    found: list[Json] = story.gateway.get("/v1/alerts")["alerts"]
    return [alert for alert in found if alert["tier"] == "page"]


def is_page(body: Json) -> bool:
    return bool(body["commonLabels"]["severity"] == "page")


def retrained(story: Story, a: Path) -> Path:
    story.chapter("3. Reviewed, and retrained")
    story.says(f"{decided(story)} decisions of two reviewers")
    story.promise("a retrain is owed", story.owed(a))
    write_settings(story.folder, "buckler", {**USUAL, "epochs": 20}, "out")
    story.says("A's training was cut short at 6 epochs; the next one has 20")
    code, said = buckler("retrain", "--store", story.store, cwd=story.folder)
    if not (story.folder / "out" / "retrain").exists():
        raise SystemExit(said)
    (b,) = (story.folder / "out" / "retrain").glob("*/bundle")
    facts = evidence(b)
    story.says(f"{facts['weights']['rows']} of {facts['intake']['asked']} reviewed rows entered")
    for name, loss in facts["golden"]["first"].items():
        story.says(f"golden {name} rows: {loss['lost']} lost, {loss['won']} won of {loss['n']}")
    story.promise("it made a draft that passed", (code, facts["state"]) == (0, "DRAFT"))
    if code:
        story.says(said)
    return b


def decided(story: Story) -> int:
    known = {each.png: each for part in vars(story.traffic).values() for each in part}
    return review(story.url, story.reviewers, known)


def evidence(bundle: Path) -> Json:
    facts: Json = json.loads((bundle / "evidence" / "retrain.json").read_text())
    return facts


def rollout(story: Story, bundle: Path, seconds: float) -> Json:
    """Begin one, and send clean inputs of all clients until it ends. Which states it was in, and
    who answered in each, stands in "seen"."""
    code, found = story.gateway.post("/v1/rollouts", {"bundle": str(bundle), "policy": ROLLOUT})
    if code != 201:
        raise SystemExit(f"the rollout was refused: {found}")
    inputs, seen = cycle(story.traffic.clean), {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answers = [
            story.gateway.classify(key, each)["bundle"]
            for key, each in zip(story.clients, inputs, strict=False)
        ]
        found = story.gateway.get("/v1/rollouts/current")
        share = sum(digest == found["candidate"] for digest in answers) / len(answers)
        if found["state"] not in seen:
            story.look(story, found["state"])
        seen[found["state"]] = share
        if found["state"] in ("COMPLETED", "ROLLED_BACK", "ABORTED", "PAUSED"):
            break
    return {**found, "seen": seen}


def rolled_out(story: Story, b: Path) -> None:
    story.chapter("4. Rolled out, and attacked again")
    found = rollout(story, b, 600)
    for state, share in found["seen"].items():
        story.says(f"{state:10} {share:.0%} of clients answered by B")
    steps = {"SHADOW", "STEP_10", "STEP_50", "STEP_100"} <= set(found["seen"])
    story.promise(f"10 → 50 → 100 %, {found['reason']}", steps and found["state"] == "COMPLETED")
    again = send(story.gateway, story.clients[:ATTACKERS], story.traffic.second_wave)
    story.says(f"attack: {again}; bundle A: {story.first}")
    story.promise("fewer attacks come through than before", 2 * again.rate < story.first.rate)


def rolled_back(story: Story, c: Path) -> None:
    story.chapter("5. A bad bundle, in a hurry")
    for verb in ("assess", "check"):
        run(story.folder, verb, c, "-c", "hasty.toml")
    live = story.gateway.classify(story.clients[0], story.traffic.clean[0])["bundle"]
    found = rollout(story, c, 300)
    story.promise(f"rolled back by itself: {found['reason']}", found["state"] == "ROLLED_BACK")
    said = found["reason"]
    told = story.until(lambda: any(said in str(body) for body in story.heard), 60)
    story.promise("the rollback is told", told)
    story.says(f"at most {max(found['seen'].values()):.0%} of clients were answered by it")
    now = {story.gateway.classify(key, story.traffic.clean[0])["bundle"] for key in story.clients}
    story.promise("every client is answered by B", now == {live})


def poisoned(story: Story, b: Path) -> None:
    story.chapter("6. A poisoner, 200 mislabelled inputs of one client")
    (mallory,) = new_keys(story.store, ["infer"])
    time.sleep(1.5)  # a new key counts within a second
    suspicious, sent = 0, 0
    while suspicious < 200 and sent < len(story.traffic.poison):
        part = story.traffic.poison[sent : sent + 50]
        suspicious += send(story.gateway, [mallory], part).suspicious
        sent += len(part)
    story.says(f"{sent} inputs sent, {suspicious} SUSPICIOUS; {decided(story)} decisions")
    run(story.folder, "review", "export", "export", "--store", story.store)
    project = Project.read(story.folder / "buckler.toml")
    value = report(project, at_the_door(project, story.folder / "export"))
    most, mine = max(value["asked_by_client"].items(), key=lambda item: item[1])
    entered = value["clients"].get(most, 0)
    story.promise(
        f"the door lets in {entered} of the poisoner's {mine} rows, {len(value['entered'])} in all",
        entered <= 0.05 * len(value["entered"]),
    )
    (story.folder / "open.toml").write_text((story.folder / "buckler.toml").read_text() + OPEN)
    code, _ = buckler("retrain", "export", "-c", "open.toml", "--parent", b, cwd=story.folder)
    refused = [
        each
        for each in (story.folder / "out" / "retrain").glob("*/bundle")
        if evidence(each)["state"] == "REFUSED"
    ]
    story.promise("with the door open, the bundle is refused", code == 1 and len(refused) == 1)
    for each in refused:
        lost = {name: loss["share"] for name, loss in evidence(each)["golden"]["parent"].items()}
        story.says(f"golden rows lost: {', '.join(f'{v:.1%} {k}' for k, v in lost.items())}")
        code, found = story.gateway.post("/v1/rollouts", {"bundle": str(each)})
        story.promise(f"no rollout takes it: {found.get('error')}", code == 400)


def tell(folder: Path, look: Callable[[Story, str], None]) -> list[str]:
    """The whole story, and the promises that were not kept.

    Args:
        look: called at each station: "attacked", the states of a rollout, "end".
    """
    folder.mkdir(parents=True, exist_ok=True)
    print(f"everything is written to {folder}")
    traffic = write_data(folder)
    a, c = make(folder, "buckler", USUAL, "out"), make(folder, "hasty", {**USUAL, **LAX}, "hasty")
    with alerts_heard() as (place, heard):
        store = f"sqlite:///{folder}/store/store.db"
        settings = Settings.read(
            port=0,
            store=store,
            alert_webhook=place,
            webhook_private=True,
            false_alarm_days=10,  # one false page in ten days ...
            rows_per_day=10_000,  # ... of a small service
            streams="flag",
            accepted_sample=0.03,  # of those rows somebody reviews one in 33: what passed
        )
        clients = new_keys(store, ["infer"], CLIENTS)
        reviewers = [*new_keys(store, ["review"]), *new_keys(store, ["review"])]
        (operator,) = new_keys(store, ["operate", "review"])
        run(folder, "review", "policy", "--agree", 2, "--of", 3, "--store", store)
        with Background(a, settings, log=False) as url, httpx2.Client(base_url=url) as http:
            gateway = Gateway(http, operator)
            story = Story(folder, traffic, gateway, url, clients, reviewers, heard, look)
            attacked(story, a)
            b = retrained(story, a)
            rolled_out(story, b)
            rolled_back(story, c)
            poisoned(story, b)
            look(story, "end")
    count = len(list((folder / "out" / "retrain").iterdir()))
    print(
        f"{count} retrains: 1 owed and made, {count - 1} refused; a weekly rhythm knows no reason"
    )
    print(f"{len(story.broken)} promises not kept, {time.monotonic() - story.began:.0f} s")
    return story.broken


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    return bool(tell(folder, lambda story, station: None))


if __name__ == "__main__":
    sys.exit(main())
