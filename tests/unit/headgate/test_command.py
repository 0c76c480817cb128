"""The command as a function, without a gate: what it answers and which exit code it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.command.main import app, main
from headgate.command.verbs.budgets import cap_value

Command = Callable[..., tuple[int, str, str]]


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1 and text.startswith("headgate: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["run"],
        ["run", "demo", "--no-such-option"],
        ["run", "no-such-directory"],
        ["run", "demo", "--timeout", "soon"],
        ["run", "demo", "--input", '{"a"'],
        ["run", "demo", "--input", "@missing.json"],
        ["run", "demo", "--policy", "missing.yaml"],
        ["run", "demo", "--policy", "bad.yaml"],
        ["run", "bad.yaml"],
        ["run", "demo", "--tenant", "A"],
        ["run", "demo", "--lifetime", "a/b"],
        ["status", "unknown"],
        ["status", "../x"],
        ["timeline", "unknown"],
        ["timeline", "one", "--from", "1h"],
        ["timeline", "--from", "yesterday"],
        ["timeline", "--from", "1h", "--to", "2h"],
        ["list", "--tenant", "../b"],
        ["start", "unknown-graph"],
        ["control", "pause", "unknown"],
        ["control", "complete", "unknown"],
        ["control", "raise-budget", "--policy", "p", "--rule", "r", "--value", "1"],
        ["control", "raise-budget", "one", "--whole-tenant", "--policy", "p", "--rule", "r", "--value", "1"],
        ["control", "pause"],
        ["control", "pause", "one", "--everything"],
        ["control", "pause", "--graph", "unknown"],
        ["control", "pause", "--everything", "--ttl", "1h"],
        ["control", "resume", "--graph", "demo", "--everything"],
        ["policy", "test", "missing.yaml"],
        ["policy", "test", "bad.yaml"],
        ["policy", "rollback", "demo", "--to", "1"],
        ["policy", "rollback", "demo"],
        ["policy", "explain", "unknown"],
        ["graph", "validate", "missing"],
        ["graph", "show", "demo", "--format", "png"],
        ["graph", "diff", "demo", "missing.dot"],
        ["graph", "validate", "demo/graph.yaml", "--handlers", "bad.yaml"],
        ["policy", "validate", "bad.yaml"],
        ["policy", "apply", "missing.yaml"],
        ["dlq", "show", "1:1"],
        ["list", "--local", "here", "--kafka", "there:9092"],
        ["worker", "task", "missing-directory"],
    ],
)
def test_wrong_input_is_answered_with_one_line_and_exit_code_2(
    command: Command, arguments: list[str]
) -> None:
    command("init", "demo")
    Path("bad.yaml").write_text("apiVersion: headgate/v1\nkind: [unclosed\n")
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert one_line(err), err


def test_bad_yaml_is_shown_with_file_line_and_column(command: Command) -> None:
    Path("bad.yaml").write_text("apiVersion: headgate/v1\nrules: []\nrules: []\n")
    assert "bad.yaml:3:1" in command("policy", "validate", "bad.yaml")[2]


def test_a_wrong_setting_names_its_variable(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_PARTITIONS", "many")
    code, _, err = command("list")
    assert code == 2
    assert "HEADGATE_PARTITIONS" in err
    assert one_line(err)


def test_init_makes_a_valid_project_and_never_overwrites(command: Command) -> None:
    code, out, _ = command("init", "my agent!", "--json")
    assert (code, json.loads(out)["files"][0]) == (0, "README.md")
    assert json.loads(command("graph", "validate", "my agent!", "--json")[1])["graph"] == "my-agent"
    assert (
        json.loads(command("policy", "validate", "my agent!/policy.yaml", "--json")[1])["policy"]
        == "my-agent"
    )
    assert command("init", "my agent!")[0] == 2


@pytest.mark.parametrize("form", ["yaml", "mermaid", "dot", "json", "schema"])
def test_a_graph_is_shown_in_every_form(command: Command, form: str) -> None:
    command("init", "demo")
    code, out, _ = command("graph", "show", "demo", "--format", form)
    assert code == 0
    assert out.strip()


def test_a_graph_is_compared_with_itself_in_another_form(command: Command) -> None:
    command("init", "demo")
    Path("drawn.dot").write_text(command("graph", "show", "demo", "--format", "dot")[1])
    assert command("graph", "diff", "demo", "drawn.dot") == (0, "the graphs are equal\n", "")
    assert command("graph", "diff", "demo", "drawn.dot", "--json") == (0, "[]\n", "")


def test_what_changed_in_a_graph_is_shown_a_line_each(command: Command) -> None:
    command("init", "demo")
    text = command("graph", "show", "demo")[1]
    Path("new.yaml").write_text(text.replace("version: 1.0.0", "version: 1.0.1"))
    code, out, _ = command("graph", "diff", "demo", "new.yaml")
    assert (code, out) == (0, "~ graph: metadata.version: 1.0.0 -> 1.0.1\n")
    (change,) = json.loads(command("graph", "diff", "demo", "new.yaml", "--json")[1])
    assert change == {
        "kind": "changed",
        "part": "graph",
        "path": "metadata.version",
        "old": "1.0.0",
        "new": "1.0.1",
    }


def test_all_faults_of_a_graph_are_shown_at_once(command: Command) -> None:
    command("init", "demo")
    text = (
        Path("demo/graph.yaml")
        .read_text()
        .replace("entry: write", "entry: nowhere")
        .replace("to: review", "to: gone")
    )
    Path("demo/graph.yaml").write_text(text)
    code, _, err = command("graph", "validate", "demo")
    assert code == 2
    assert len(err.splitlines()) >= 2
    code, out, _ = command("graph", "validate", "demo", "--json")
    assert (code, json.loads(out)["valid"]) == (2, False)


def test_a_started_lifetime_can_be_looked_at_before_any_gate_runs(command: Command) -> None:
    command("init", "demo")
    assert command("graph", "register", "demo")[0] == 0
    started = json.loads(command("start", "demo", "--lifetime", "one", "--input", "text", "--json")[1])
    assert started["lifetime_id"] == "one"
    assert command("control", "pause", "one", "--reason", "odd")[0] == 0
    rows = json.loads(command("timeline", "one", "--json")[1])
    assert [row["what"] for row in rows] == ["start", "command"]
    [tree] = json.loads(command("timeline", "one", "--json", "--tree")[1])
    assert (tree["what"], [one["what"] for one in tree["below"]]) == ("one", ["◆ pause"])
    assert "one" in command("timeline")[1]
    assert "wrote page.html" in command("timeline", "one", "--html", "page.html")[1]
    assert "odd" in Path("page.html").read_text()
    assert command("timeline", "--tenant", "acme")[1].startswith("nothing happened: tenant acme")
    assert json.loads(command("status", "one", "--json")[1])["status"] == "starting"
    assert command("status", "one", "--tenant", "acme")[0] == 2


def test_a_budget_is_raised_in_the_unit_people_write(command: Command) -> None:
    command("init", "demo")
    command("graph", "register", "demo")
    command("policy", "apply", "demo/policy.yaml")
    command("start", "demo", "--lifetime", "one")
    raise_it = ("control", "raise-budget", "one", "--policy", "demo", "--rule", "run-dollars", "--value")
    assert command(*raise_it, "1.50")[0] == 0
    for wrong in ("much", "-1", "nan", "0.0000000001"):
        code, _, err = command(*raise_it, wrong)
        assert code == 2, wrong
        assert one_line(err)
    code, _, err = command("control", "raise-budget", "--policy", "demo", "--rule", "none", "--value", "1")
    assert (code, "run-tokens" in err) == (2, True)


def test_a_tenants_cap_is_raised_without_a_lifetime_and_no_other(command: Command) -> None:
    command("init", "demo")
    command("graph", "register", "demo")
    command("policy", "apply", "demo/policy.yaml")
    command("start", "demo", "--lifetime", "one")
    day = ("--policy", "demo", "--rule", "day-dollars", "--value", "50")
    said = json.loads(command("control", "raise-budget", "--whole-tenant", *day, "--json")[1])
    assert (said["command"], said["lifetime_id"], said["gates"]) == ("raise-budget", "", 0)
    assert command("control", "raise-budget", *day)[0] == 0
    code, _, err = command("control", "raise-budget", "one", *day)
    assert (code, "leave the lifetime out" in err) == (2, True)
    run = ("--policy", "demo", "--rule", "run-dollars", "--value", "1")
    code, _, err = command("control", "raise-budget", *run)
    assert (code, "name the lifetime" in err) == (2, True)


def test_a_cap_of_the_platform_is_raised_for_one_tenant(command: Command) -> None:
    command("init", "demo")
    command("policy", "apply", "demo/policy.yaml", "--every-tenant")
    for name in ("demo", "*demo"):
        day = ("--policy", name, "--rule", "day-dollars", "--value", "50")
        assert command("control", "raise-budget", *day)[0] == 0
    code, _, err = command(
        "control", "raise-budget", "--policy", "x", "--rule", "day-dollars", "--value", "1"
    )
    assert (code, "in force: *demo" in err) == (2, True)


def test_a_graph_or_everything_is_frozen_and_thawed_by_command(command: Command) -> None:
    command("init", "demo")
    command("graph", "register", "demo")
    said = json.loads(command("control", "pause", "--graph", "demo", "--reason", "bad", "--json")[1])
    assert (said["command"], said["whom"], said["answered"]) == (
        "pause",
        "graph demo of tenant default",
        False,
    )
    code, out, _ = command("control", "resume", "--everything")
    assert (code, "everything of tenant default" in out) == (0, True)
    assert "no gate is running" in out


@pytest.mark.parametrize(
    ("metric", "text", "value"),
    [
        ("cost_nano_usd", "$1.50", 1_500_000_000),
        ("tokens_used", "30,000", 30_000),
        ("wall_time_ms", "2h", 7_200_000),
        ("latency_ms", "1500", 1500),
    ],
)
def test_a_cap_is_written_in_its_unit(metric: str, text: str, value: int) -> None:
    assert cap_value(metric, text) == value


CASES = """apiVersion: headgate/v1
kind: PolicyCases
policy: demo/policy.yaml
cases:
  - {name: within, dispatch: {tokens_used: 200}, expect: allow}
  - {name: above, lifetime: {tokens_used: 1900}, dispatch: {tokens_used: 200}, expect: EXPECTED}
"""


@pytest.mark.parametrize(("expected", "code"), [("abort_lifetime", 0), ("allow", 1)])
def test_cases_beside_a_policy_are_judged_a_line_each(command: Command, expected: str, code: int) -> None:
    command("init", "demo")
    Path("cases.yaml").write_text(CASES.replace("EXPECTED", expected))
    done, out, err = command("policy", "test", "cases.yaml")
    assert (done, err) == (code, "")
    lines = out.splitlines()
    assert lines[0] == "ok    within: allow"
    assert lines[1].startswith("ok    above: abort_lifetime" if code == 0 else "FAIL  above: abort_lifetime")
    done, out, _ = command("policy", "test", "cases.yaml", "--json")
    assert (done, json.loads(out)["passed"]) == (code, code == 0)


EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    "cases", sorted(EXAMPLES.rglob("*cases.yaml")), ids=lambda path: path.parent.parent.name
)
def test_the_cases_of_the_examples_are_as_expected(command: Command, cases: Path) -> None:
    code, out, _ = command("policy", "test", str(cases))
    assert (code, "FAIL" in out) == (0, False)


def test_the_cases_of_a_new_project_name_each_of_its_rules(command: Command) -> None:
    command("init", "demo")
    said = json.loads(command("policy", "test", "demo/policy_cases.yaml", "--json")[1])
    assert said["passed"]
    broken = {one["said"].partition(" by ")[2] for one in said["cases"]} - {""}
    assert broken == {"run-tokens", "run-dollars", "day-dollars", "loop"}


def test_versions_are_listed_and_an_old_one_is_put_in_force_again(command: Command) -> None:
    command("init", "demo")
    assert "no policy was ever set" in command("policy", "list")[1]
    command("policy", "apply", "demo/policy.yaml")
    text = Path("demo/policy.yaml").read_text().replace("version: 1}", "version: 2}")
    Path("demo/policy.yaml").write_text(text)
    command("policy", "apply", "demo/policy.yaml")
    said = json.loads(command("policy", "rollback", "demo", "--to", "1", "--json")[1])
    assert (said["applied"], said["version"]) == (True, 1)
    assert "in force already" in command("policy", "rollback", "demo", "--to", "1")[1]
    versions = json.loads(command("policy", "list", "--json")[1])
    assert [(one["version"], one["in_force"]) for one in versions] == [(1, True), (2, False)]
    assert "in force since" in command("policy", "list")[1]


def test_policies_in_force_are_shown(command: Command) -> None:
    command("init", "demo")
    assert "no policy" in command("policy", "show")[1]
    command("policy", "apply", "demo/policy.yaml")
    [shown] = json.loads(command("policy", "show", "--json")[1])
    assert shown["metadata"]["name"] == "demo"


def test_topics_are_made_once(command: Command) -> None:
    assert len(json.loads(command("topics", "create", "--queue", "gpu", "--json")[1])["created"]) == 9
    assert json.loads(command("topics", "create", "--json")[1])["created"] == []
    assert "headgate.executions" in command("topics", "list")[1]


def test_secrets_are_masked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_S3_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HEADGATE_S3_ENDPOINT_URL", "http://me:hunter2@localhost:9000")
    monkeypatch.setenv("HEADGATE_KAFKA_OPTIONS", '{"sasl.password": "hunter2", "client.id": "me"}')
    for form in ([], ["--json"]):
        out = command("config", *form)[1]
        assert "hunter2" not in out
        assert "localhost:9000" in out


def test_an_option_wins_over_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_KAFKA", "nowhere:1")
    monkeypatch.setenv("HEADGATE_TENANT", "acme")
    assert json.loads(command("config", "--json")[1])["tenant"] == "acme"
    shown = json.loads(command("config", "--json", "--local", "here", "--tenant", "other")[1])
    assert (shown["kafka"], shown["local"], shown["tenant"]) == (None, "here", "other")


def test_version_says_what_it_stands_on(command: Command) -> None:
    assert command("--version")[1].startswith("headgate ")
    assert "python" in json.loads(command("version", "--json")[1])


def every_command() -> list[list[str]]:
    found = [[one.name] for one in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += [[group.name, one.name] for one in group.typer_instance.registered_commands]
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_teaches_and_has_the_common_options(
    path: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == 0
    out = capsys.readouterr().out
    for expected in (
        "--local",
        "--kafka",
        "--tenant",
        "--json",
        "--debug",
        "For example",
        f"headgate {path[0]}",
    ):
        assert expected in out


def test_a_tenant_without_work_has_an_overview_too(command: Command) -> None:
    code, out, _ = command("status")
    assert (code, out.splitlines()[0]) == (0, "tenant default: no lifetime yet")
    said = json.loads(command("status", "--json", "--tenant", "acme")[1])
    assert (said["tenant"], said["lifetimes"], said["running"]["gates"]) == ("acme", {}, 0)
    assert "nothing waits" in command("list", "--waiting")[1]
    assert json.loads(command("list", "--waiting", "--json")[1]) == []
