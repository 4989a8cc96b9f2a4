"""The installer on a Debian that a real systemd has booted: what it does, leaves and takes back."""

from __future__ import annotations

from typing import Any

import container
import pytest
import releases

Records = dict[str, dict[str, Any]]
pytestmark = pytest.mark.vm

NOTHING = {"gone": [], "left": [], "changed": []}
CONFIG = "/etc/parfocal/parfocal.toml"
REFUSALS = {
    "no build": "--build NAME: say which; 28byj48-uln2003, ",
    "unknown build": "--build none: 28byj48-uln2003, ",
    "no trusted key": "no key is trusted yet: --bundle-key FILE names ",
    "not root": "only root can install a service: sudo ",
    "other board": "other-board is for test (Python 3.13, ",
    "disk full": "/opt: 100 MB free; at least ",
    "other key": "other-key: not signed by a key in /etc/parfocal/signers, or changed since",
    "config that nobody knows": f"{CONFIG}: unknown key 'speed' in [stage]; allowed: ",
    "purge asks": "--purge: removes /etc/parfocal and /var/lib/parfocal for good; say so with --yes",
}


def _changes(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in NOTHING}


class TestRefuses:
    @pytest.mark.parametrize("step", REFUSALS)
    def test_with_one_line(self, story: Records, step: str) -> None:
        record = story[step]
        assert record["code"] == 2
        assert REFUSALS[step] in record["err"]
        assert record["err"].startswith("parfocal: ")
        assert record["err"].count("\n") == 1

    def test_and_touches_nothing(self, story: Records) -> None:
        assert _changes(story["after refusals"]) == NOTHING

    @pytest.mark.parametrize("step", ["other key", "config that nobody knows"])
    def test_while_the_service_runs_on(self, story: Records, step: str) -> None:
        for key in ("process", "current", "previous", "releases", "token"):
            assert story[step][key] == story["broken upgrade"][key], key


class TestFirst:
    def test_runs_and_is_enabled(self, story: Records) -> None:
        first = story["first"]
        assert (first["code"], first["err"]) == (0, "")
        assert (first["active"], first["enabled"]) == ("active", "enabled")
        assert first["runs"] == first["current"]
        assert first["releases"] == [first["current"]]
        assert not first["trial"]

    def test_writes_configuration_and_token(self, story: Records) -> None:
        first = story["first"]
        assert 'specimen = "tissue"' in first["config"]
        assert len(bytes.fromhex(first["token"])) == 32
        assert first["token_mode"] == "640 root:parfocal"

    def test_leaves_nothing_but_the_configuration_when_it_fails(self, story: Records) -> None:
        broken = story["broken first"]
        assert broken["code"] == 1
        assert "this version is broken" in broken["err"]
        left = ["/etc/parfocal", CONFIG]
        assert _changes(story["after broken first"]) == {**NOTHING, "left": left}

    def test_the_service_works_behind_its_walls(self, story: Records) -> None:
        service = story["service"]
        assert service["ran"], service["log"]
        assert service["results"][0]["result"] == "focused"
        assert service["page"] == 200, service["said"]
        assert service["user"] == "parfocal"
        assert service["restarts"] == "0"
        assert "Traceback" not in service["log"]
        assert float(service["exposure"].split(": ")[1].split()[0]) <= 1.8

    def test_the_numpy_of_the_system_stays(self, story: Records) -> None:
        version, file = story["service"]["numpy"]
        assert version.startswith("1.24.")
        assert file.startswith("/usr/lib/python3/dist-packages/")

    def test_what_a_program_may_do_in_the_unit(self, story: Records) -> None:
        lines = [line.rsplit(": ", 1) for line in story["walls"]["said"].splitlines() if ": " in line]
        found = dict(lines)
        # A kernel with RT_GROUP_SCHED, or a container without the right, refuses; the unit's filter does not.
        assert found.pop("real time") in ("works", "Operation not permitted")
        assert found.pop("other affinity") == "Structure needs cleaning"
        works = {name for name, outcome in found.items() if outcome == "works"}
        assert works == {"state", "pipe", "cache", "token", "netlink", "of the group dialout"}, found
        assert found["groups"] == "3"


class TestAgain:
    @pytest.mark.parametrize(("once", "twice"), [("first", "again"), ("tree", "tree again")])
    def test_nothing_changes(self, story: Records, once: str, twice: str) -> None:
        assert story[twice]["code"] == 0
        assert "runs already" in story[twice]["out"]
        for key in ("process", "runs", "current", "previous", "releases", "config", "token"):
            assert story[twice][key] == story[once][key], key

    def test_a_host_in_the_configuration_opens_the_network(self, story: Records) -> None:
        assert sorted(story["first"]["denied"].split()) == ["0.0.0.0/0", "::/0"]
        assert story["network"]["code"] == 0
        assert story["network"]["denied"] == ""
        assert story["network"]["process"] != story["again"]["process"]

    def test_from_a_source_tree_with_the_build_chosen_at_the_terminal(self, story: Records) -> None:
        assert story["tree"]["code"] == 0, story["tree"]["err"]
        assert 'specimen = "tissue"' in story["tree"]["config"]
        assert story["tree"]["active"] == "active"


class TestUpgrade:
    def test_keeps_what_is_the_users(self, story: Records) -> None:
        before, after = story["network"], story["upgrade"]
        assert after["code"] == 0, after["err"]
        assert after["runs"].startswith(f"{releases.NEWER}-")
        assert after["previous"] == before["current"]
        assert sorted((before["current"], after["current"])) == after["releases"]
        for key in ("config", "token", "token_mode"):
            assert after[key] == before[key], key
        assert after["journal"] == "a position\n"
        assert "--build gcode-marlin is not used" in after["out"]

    def test_that_fails_is_taken_back(self, story: Records) -> None:
        before, after = story["upgrade"], story["broken upgrade"]
        assert after["code"] == 1
        assert "this version is broken" in after["err"]
        assert after["err"].endswith(f"parfocal: {before['current']} runs again\n")
        assert after["active"] == "active"
        for key in ("runs", "current", "previous", "releases", "config", "token", "journal"):
            assert after[key] == before[key], key

    def test_that_is_interrupted_is_taken_back(self, story: Records) -> None:
        before, after = story["upgrade"], story["terminated"]
        assert after["code"] == 128 + 15
        assert after["active"] == "active"
        assert not after["trial"]
        for key in ("runs", "current", "previous", "releases"):
            assert after[key] == before[key], key

    def test_that_the_power_cuts_leaves_the_old_one(self, story: Records) -> None:
        cut, boot, rerun = story["cut"], story["next boot"], story["rerun"]
        assert cut["runs"].startswith("99.3.0-")
        assert boot["active"] == "active"
        assert boot["runs"] == boot["current"] == story["upgrade"]["current"]
        assert not boot["trial"]
        assert len(boot["releases"]) == 3
        assert rerun["code"] == 0
        assert rerun["releases"] == story["upgrade"]["releases"]


class TestUninstall:
    def test_leaves_what_is_the_users(self, story: Records) -> None:
        record = story["uninstall"]
        assert (record["code"], record["err"]) == (0, "")
        assert record["config"] == story["upgrade"]["config"]
        assert record["journal"] == "a position\n"
        assert record["token"] is None
        left = story["after uninstall"]
        assert left["left"] == []
        assert left["owner"] == "750 root:root"
        assert not [
            path for path in left["kept"] if not path.startswith(("/etc/parfocal", "/var/lib/parfocal"))
        ]

    def test_twice_is_once(self, story: Records) -> None:
        assert story["uninstall again"]["code"] == 0

    @pytest.mark.parametrize("step", ["after purge", "after removed"])
    def test_purge_leaves_nothing(self, story: Records, step: str) -> None:
        assert _changes(story[step]) == NOTHING


def test_the_containers_python_is_the_bundles() -> None:
    assert releases.board().python == container.PYTHON
