from __future__ import annotations

import types
from pathlib import Path

import pytest

from headgate_graphs.errors import UserError
from headgate_graphs.model import NodeKind
from headgate_workers import HandlerRegistry, TaskContext, load_handlers, plan, task


@task
def named_by_function(ctx: TaskContext) -> int:
    return 1


def test_decorators_keep_the_function_and_name_the_type() -> None:
    @task("other", timeout="2m")
    async def one(ctx: TaskContext, data: int) -> int:
        return data

    @plan()
    def decide(ctx: object) -> None:
        return None

    found = HandlerRegistry.from_modules([_module(one=one, decide=decide, named=named_by_function)])
    assert named_by_function(None) == 1  # type: ignore[arg-type]
    handler = found.get(NodeKind.TASK, "other")
    assert handler is not None
    assert (handler.timeout_ms, handler.call.is_async, handler.call.takes_input) == (120_000, True, True)
    assert found.get(NodeKind.PLAN, "decide") is not None
    assert found.get(NodeKind.TASK, "decide") is None
    assert found.types(NodeKind.TASK) == ["chat", "http", "named_by_function", "other", "subprocess"]


def _module(**names: object) -> types.ModuleType:
    made = types.ModuleType("made")
    vars(made).update(names)
    return made


def test_two_handlers_of_one_type_are_refused_and_the_same_one_twice_is_not() -> None:
    @task("named_by_function")
    def another(ctx: TaskContext) -> None:
        return None

    registry = HandlerRegistry.from_modules([_module(a=named_by_function), _module(b=named_by_function)])
    with pytest.raises(UserError, match="two handlers"):
        registry.add(another)


def test_a_users_handler_wins_over_a_ready_one() -> None:
    @task("chat")
    def mine(ctx: TaskContext) -> None:
        return None

    registry = HandlerRegistry()
    registry.add(mine)
    handler = registry.get(NodeKind.TASK, "chat")
    assert handler is not None
    assert handler.function is mine


def test_faulty_declarations_are_refused_where_they_stand() -> None:
    with pytest.raises(UserError, match="a type is"):
        task("not a name")(lambda ctx: None)
    with pytest.raises(UserError, match="duration"):
        task("x", timeout="soon")(lambda ctx: None)
    with pytest.raises(UserError, match="served by the gate"):
        task("human")(lambda ctx: None)
    with pytest.raises(UserError, match=r"\(ctx\) or \(ctx, input\)"):
        task("x")(lambda: None)
    with pytest.raises(UserError, match="generator"):

        @task
        def many(ctx: TaskContext) -> object:
            yield 1

    with pytest.raises(UserError, match="not a handler"):
        HandlerRegistry().add(lambda ctx: None)


def test_handlers_are_loaded_from_a_directory_with_what_stands_beside_them(tmp_path: Path) -> None:
    (tmp_path / "beside_handlers.py").write_text("VALUE = 7\n")
    (tmp_path / "handlers.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from headgate_workers import task\n"
        "from beside_handlers import VALUE\n"
        "@dataclass\nclass In:\n    n: int\n"
        "@task\ndef seven(ctx, data: In): return VALUE\n"
    )
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "choose.py").write_text(
        "from headgate_workers import plan\n@plan\ndef choose(ctx): return None\n"
    )
    found = load_handlers(tmp_path)
    handler = found.get(NodeKind.TASK, "seven")
    assert handler is not None
    assert handler.call.convert({"n": 3}).n == 3
    assert found.get(NodeKind.PLAN, "choose") is not None
    assert load_handlers(tmp_path / "handlers.py").get(NodeKind.TASK, "seven") == handler


def test_a_directory_without_handlers_has_the_ready_ones(tmp_path: Path) -> None:
    assert load_handlers(tmp_path).get(NodeKind.TASK, "http") is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", "SyntaxError"),
        ("import no_such_module_here", "no_such_module_here"),
        ("raise SystemExit(1)", "SystemExit"),
        ("x = 1", "no function here"),
        (
            "from headgate_workers import task\n@task\ndef a(ctx, data: 'Nowhere'): pass\n",
            "does not resolve",
        ),
    ],
)
def test_files_that_cannot_be_loaded_say_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "handlers.py"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        load_handlers(file)


def test_a_missing_path_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_handlers(tmp_path / "absent.py")
