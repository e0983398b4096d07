"""buckler review: a person at a terminal works the queue."""

import json

import pytest

from buckler.ops.review import Policy
from buckler.store.engine import open_store
from buckler.store.shared import read_policy, set_policy
from tests.store.made import add, item


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def queue(url):
    store = open_store(url)
    names = add(store, item(0, risk=0.9), item(1, risk=0.1))
    yield store, names
    store.close()


def test_an_afternoon(run_lines, queue, url, tmp_path):
    _, names = queue

    def review(*arguments):
        code, out, err = run_lines(
            "review", *arguments, *("--store", url), *([] if who is None else ["--reviewer", who])
        )
        assert code == 0, err
        return out

    who = "ann"
    found = json.loads(review("next", "--folder", tmp_path))
    assert (found["id"], found["prediction"], found["lease_by"]) == (names[0], "cat", "ann")
    assert (tmp_path / f"{names[0]}.png").read_bytes() == b"input 0"
    made = json.loads(review("decide", names[0], "label", "--label", "dog", "--note", "tail"))
    assert (made["state"], made["label"]) == ("decided", "dog")
    back = json.loads(review("undo", names[0]))
    assert (back["state"], back["lease_by"]) == ("waiting", "ann")
    review("decide", names[0], "corrupted")
    who = "bob"
    assert json.loads(review("next", "--folder", tmp_path))["id"] == names[1]
    review("decide", names[1], "unsure")
    assert "nothing waits for you" in review("next")
    who = "eve"
    assert json.loads(review("next", "--senior", "--folder", tmp_path))["level"] == 1
    review("decide", names[1], "accept", "--senior")
    who = None
    assert json.loads(review("stats"))["outcomes"] == {"accept": 1, "corrupted": 1}
    said = review("export", tmp_path / "out")
    assert "1 images, 0 rows, 1 without a class, 0 redacted" in said
    assert (tmp_path / "out" / "images" / "cat" / f"{names[1]}.png").is_file()


def test_a_blind_queue_wants_an_answer_first(run, queue, url, tmp_path):
    store, names = queue
    set_policy(store, Policy(blind=True), 0.0, "root")
    given = ("--store", url, "--reviewer", "ann")
    _, out, _ = run("review", "next", "--folder", tmp_path, *given)
    assert json.loads(out)["prediction"] is None
    code, _, err = run("review", "decide", names[0], "accept", *given)
    assert (code, "give your own label" in err) == (2, True)
    _, out, _ = run("review", "answer", names[0], "dog", *given)
    assert json.loads(out)["prediction"] == "cat"
    assert run("review", "decide", names[0], "accept", *given)[0] == 0


def test_mistakes_are_one_sentence(run, queue, url, tmp_path):
    _, names = queue
    given = ("--store", url, "--reviewer", "ann")
    code, _, err = run("review", "decide", names[0], "accept", *given)
    assert (code, f"you do not hold {names[0]}" in err) == (2, True)
    code, _, err = run("review", "stats", "--store", f"sqlite:///{tmp_path}/other.db")
    assert (code, "there is no store at" in err) == (2, True)
    assert not (tmp_path / "other.db").exists()
    code, _, err = run("review", "stats", "--store", "nonsense")
    assert (code, "a store is given as" in err) == (2, True)
    run("review", "next", "--folder", tmp_path, *given)
    code, _, err = run("review", "decide", names[0], "accept", "--version", "7", *given)
    assert (code, "at version 1, the decision was about version 7" in err) == (1, True)


def test_how_the_queue_is_run(run_lines, queue, url):
    store, _ = queue
    policy = ("review", "policy", "--store", url)
    assert json.loads(run_lines(*policy)[1])["agree"] == 1
    said = json.loads(run_lines(*policy, "--agree", 2, "--of", 3, "--blind")[1])
    assert (said["agree"], said["of"], said["blind"]) == (2, 3, True)
    assert read_policy(store) == Policy(agree=2, of=3, blind=True)
    assert json.loads(run_lines(*policy, "--open")[1])["agree"] == 2, "the rest stays"
    assert read_policy(store) == Policy(agree=2, of=3)
    code, _, err = run_lines(*policy, "--agree", 4)
    assert (code, "agree must be 1 or more and at most of" in " ".join(err.split())) == (2, True)
    assert run_lines(*policy, "--on-due", "forget")[0] == 2
    assert read_policy(store) == Policy(agree=2, of=3)
