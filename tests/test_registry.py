"""Registry: names and the small language that names a thing with its parameters."""

import string
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.errors import UnknownName, UsageError
from lab.registry import Call, LazyTable, Registry, parameters_of, unknown

many = settings(deadline=None, max_examples=500, derandomize=True)


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("rsi", Call("rsi")),
        ("rsi()", Call("rsi")),
        ("rsi(14)", Call("rsi", (14,))),
        (" macd( 12 , slow = 26 ) ", Call("macd", (12,), (("slow", 26),))),
        ('f(2.5, -1, "text", True)', Call("f", (2.5, -1, "text", True))),
    ],
)
def test_a_name_with_parameters_is_read_as_written(text: str, call: Call) -> None:
    assert Call.parse(text) == call


HOSTILE = [
    "",
    " ",
    "(",
    "f(",
    "f)",
    "14",
    "f(14)(2)",
    "f.g(1)",
    "a.b",
    "f[1]",
    "f(g)",
    "f(g())",
    "f(1 + 2)",
    "f(10**9)",
    "f(*[1])",
    "f(**{'a': 1})",
    "f(None)",
    "f(b'1')",
    "f(1j)",
    "f([1])",
    "f({[]: 1})",
    "f({[1]})",
    "f({1: 2, **{}})",
    "f(window=1, window=2)",
    "f(window=1, 2)",
    "f(x := 1)",
    "f(i for i in (1,))",
    "f(lambda: 1)",
    "f(f'{1}')",
    "f; g",
    "f\ng",
    "f(\x00)",
    "f(\ud800)",
    "lambda: 1",
    "__import__('os').system('true')",
    "f(__import__('os'))",
    "(" * 300,
    "-" * 5_000 + "1",
    "f(" + "9" * 5_000 + ")",
    "f(" + "[" * 150 + "]" * 150 + ")",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_name_with_literal_parameters_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Call.parse(text)
    assert refusal.value.problem == f"{text!r} is not a name with parameters"
    assert refusal.value.fix == "write it as name, name(20) or name(window=20)"


pieces = st.sampled_from(
    [
        *"()[]{}.,:=*+-~@'\"\\#\n\t \x00",
        "f",
        "open",
        "__import__",
        "1",
        "0x",
        "1e",
        "1e999",
        "None",
        "True",
        "lambda",
        "if",
    ]
)
literals = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers()),
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner), st.dictionaries(st.integers(), inner)),
    max_leaves=5,
)


@many
@given(
    st.one_of(
        st.text(),
        st.lists(pieces, max_size=12).map("".join),
        st.lists(pieces, max_size=8).map(lambda parts: f"f({''.join(parts)})"),
        literals.map(lambda value: f"f({value!r})"),
        literals.map(lambda value: f"f(a={value!r})"),
    )
)
@example("f({[]: 1})")
def test_whatever_is_typed_is_a_call_of_plain_values_or_a_usage_error(text: str) -> None:
    try:
        call = Call.parse(text)
    except UsageError as refusal:
        assert refusal.problem.startswith(repr(text))
    else:
        assert call.name.isidentifier()
        assert all(type(value) in (int, float, str, bool) for value in (*call.positional, *dict(call.named).values()))


@pytest.mark.parametrize(
    "text",
    ["{}", "f({})", "f(a={})", "f(f'{{{}}}')", "f(*{})", "f(**{})", "f(a := {})", "f([{} for _ in (1,)])", "{}(1)"],
)
def test_nothing_that_is_typed_is_evaluated(text: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(UsageError):
        Call.parse(text.format(f"__import__('pathlib').Path({str(made)!r}).touch()"))
    assert not made.exists()


plain = st.one_of(
    st.integers(0, 10**8),
    st.floats(0, 1e8),
    st.booleans(),
    st.text(st.characters(codec="ascii", exclude_categories=["C"])),
)
names = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(
    lambda name: name not in ("as", "if", "in", "is")
)


@many
@given(names, st.lists(plain, max_size=3), st.dictionaries(names.map("p_{}".format), plain, max_size=3))
def test_what_is_written_out_is_read_back(name: str, positional: list, named: dict) -> None:  # type: ignore[type-arg]
    listed = [*map(repr, positional), *(f"{key}={value!r}" for key, value in named.items())]
    call = Call.parse(f"n_{name}({', '.join(listed)})")
    assert call == Call(f"n_{name}", tuple(positional), tuple(named.items()))


def formula(window: int, width: float = 2.0, side: str = "up", strict: bool = False) -> None:
    """Something with parameters."""


@pytest.mark.parametrize("text", ["f(20)", "f(window=20)", "f(20, 2)", "f(20, width=2.0, side='up', strict=False)"])
def test_a_default_spelled_out_or_left_out_is_the_same_call(text: str) -> None:
    bound = Call.parse(text).bind(formula)
    assert bound == {"window": 20, "width": 2.0, "side": "up", "strict": False}
    assert [type(value) for value in bound.values()] == [int, float, str, bool]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("f", "f: missing a required argument: 'window'"),
        ("f(1, 2, 'a', True, 5)", "f: too many positional arguments"),
        ("f(1, window=2)", "f: multiple values for argument 'window'"),
        ("f(1, size=2)", "f: got an unexpected keyword argument 'size'"),
        ("f(1.5)", "f: window is 1.5, which is not an int"),
        ("f(True)", "f: window is True, which is not an int"),
        ("f('14')", "f: window is '14', which is not an int"),
        ("f(1, True)", "f: width is True, which is not a float"),
        ("f(1, strict=1)", "f: strict is 1, which is not a bool"),
        ("f(-1)", "f: window is -1"),
        ("f(1, 1e999)", "f: width is inf"),
        ("f(1000000000)", "f: window is 1000000000"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_refused_with_its_value(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Call.parse(text).bind(formula)
    assert refusal.value.problem == problem
    assert refusal.value.fix
    if "argument" in problem:
        assert refusal.value.fix == "its parameters are f(window, width=2.0, side='up', strict=False)"


def test_the_parameters_are_listed_as_a_person_types_them() -> None:
    assert parameters_of(formula) == "(window, width=2.0, side='up', strict=False)"


def test_a_registry_keeps_its_order_and_answers_a_misspelling() -> None:
    registry: Registry[int] = Registry("feature")
    for number, name in enumerate(("realised_vol", "rsi", "adx")):
        registry.add(name, number)
    assert list(registry) == ["realised_vol", "rsi", "adx"]
    assert registry["rsi"] == 1
    with pytest.raises(UnknownName) as refusal:
        registry["realized_vol"]
    assert refusal.value.problem == "there is no feature named 'realized_vol'"
    assert refusal.value.fix == "did you mean realised_vol?"
    assert refusal.value.exit_code == 2


def test_two_things_under_one_name_are_a_bug_and_the_first_stays() -> None:
    registry: Registry[int] = Registry("label")
    registry.add("direction", 1)
    with pytest.raises(ValueError, match="two labels are named 'direction'"):
        registry.add("direction", 2)
    assert registry["direction"] == 1
    assert list(registry) == ["direction"]


def test_where_nothing_is_near_every_choice_is_named() -> None:
    assert unknown("bus", "xyz", ["nats", "kafka"]).fix == "choose one of: kafka, nats"
    assert unknown("bus", "xyz", []).fix == "choose one of: (none)"


def test_a_lazy_table_imports_what_is_looked_up_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wanted", "unwanted"):
        (tmp_path / f"lazily_{name}.py").write_text(f"thing = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    table = LazyTable("bus", {name: f"lazily_{name}:thing" for name in ("wanted", "unwanted")})
    assert list(table) == ["wanted", "unwanted"]
    assert not {"lazily_wanted", "lazily_unwanted"} & set(sys.modules)
    with pytest.raises(UnknownName, match="there is no bus named 'wantd'"):
        table["wantd"]
    assert not {"lazily_wanted", "lazily_unwanted"} & set(sys.modules)
    assert table["wanted"] == "wanted"
    assert "lazily_wanted" in sys.modules
    assert "lazily_unwanted" not in sys.modules
    monkeypatch.delitem(sys.modules, "lazily_wanted")
