"""The structure of a scenario file, defined once: its keys and the types of their values.

From these types pydantic checks a file (:func:`check_structure`) and makes the JSON Schema for editors
(``scenarios/schema.json``). Import this module only where a file is read: pydantic takes some 60 ms.
``scenario_file.py`` checks the rest, such as whether a table exists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import date, datetime, time
from typing import Annotated, Any, Final, Literal, Required, get_type_hints

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

# pydantic needs this one before Python 3.12
from typing_extensions import TypedDict

from bulkseed.errors import suggestion
from bulkseed.plan.plan import Probabilities
from bulkseed.plan.scenario import Shape, describe_range
from bulkseed.scenarios import shipped
from bulkseed.text.fakes import MOST_VALUES

__all__ = ["ScenarioValues", "check_structure", "json_schema"]

STRICT: Final = ConfigDict(extra="forbid", strict=True)
"""No unknown keys, no texts for numbers."""

MOST_SHOWN: Final = 60
"""Characters of a value in an error."""


def give(what: str) -> WrapValidator:
    """Return a validator with one error for all wrong values: the advice to give ``what``."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("give", "give {what}", {"what": what}) from None  # pydantic keeps no cause

    return WrapValidator(check)


def refuse_number(value: Any) -> Any:
    """Refuse 0, which a Literal takes for False."""
    if not isinstance(value, bool):
        raise PydanticCustomError("absent", "not false")
    return value


Text = Annotated[str, give("a text")]
Texts = Annotated[list[str], give('a list of texts, such as ["myapp.seed:name"]')]
Count = Annotated[int, Field(ge=1), give("a whole number from 1")]
Share = Annotated[float, Field(ge=0, le=1), give("a number from 0 to 1")]
Absent = Annotated[Literal[False], BeforeValidator(refuse_number)]
AppName = Annotated[
    Annotated[str, Field(min_length=1)] | Absent, give("the app's name, or false if the app does not have it")
]
ColumnName = Annotated[str, give('the name of a column, such as "created_at"')]
Side = Annotated[Literal["users", "channels", "messages"], give("users, channels or messages")]


class Counts(TypedDict, total=False):
    """Numbers of rows at a scale of 1x."""

    users: Annotated[int, Field(ge=2, description="users of the workspace, at least 2"), give("a whole number from 2")]
    channels: Annotated[Count, Field(description="channels, DMs among them")]
    messages_per_channel: Annotated[
        Count, Field(description="top-level messages (replies not counted), as a mean over all channels")
    ]


class Section:
    """The type of a section whose keys are the parameters of a dataclass (``plan/scenario.py``)."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        types, parameters = get_type_hints(self.kind), {}
        for field in fields(self.kind):
            limits = field.metadata
            about = Field(ge=limits["least"], le=limits["most"], description=limits["description"])
            fix = give(describe_range(str(field.type), limits))
            parameters[field.name] = (Annotated[types[field.name], about, fix], field.default)
        model = create_model(self.kind.__name__, __config__=STRICT, **parameters)  # type: ignore[call-overload]
        return handler.generate_schema(model)


class AnyField(TypedDict, total=False):
    """The keys that fields of any kind may have."""

    null: Annotated[Share, Field(description="share of rows without a value")]


class FakerField(AnyField, total=False):
    """Values of a Faker method: https://faker.readthedocs.io/en/stable/providers.html."""

    faker: Required[Annotated[str, give('the name of a Faker method, such as "phone_number"')]]
    args: Annotated[
        dict[str, Any],
        Field(description="arguments of the method"),
        give("a table of the method's arguments, such as { min = 1, max = 9 }"),
    ]
    pool: Annotated[
        int,
        Field(
            ge=1, le=MOST_VALUES, description="number of values that Faker makes, from which rows draw; 1000 by default"
        ),
        give(f"a whole number from 1 to {MOST_VALUES}"),
    ]
    unique: Annotated[
        bool,
        Field(description="put the row's id into each text, so that no two texts are equal"),
        give("true or false"),
    ]


class ChoiceField(AnyField, total=False):
    """One of a list of values."""

    choice: Required[Annotated[list[Any], Field(min_length=1), give("a list of values")]]
    weights: Annotated[
        list[Annotated[float, Field(ge=0)]],
        Field(description="relative frequency of each value"),
        give("a list of numbers from 0"),
    ]


class TemplateField(AnyField, total=False):
    """A text with placeholders: {n}, {id}, {uuid}, another column, or {faker.METHOD}."""

    template: Required[Annotated[str, give('a text, such as "user-{n}"')]]


class ValueField(AnyField, total=False):
    """The same value for all rows."""

    value: Required[Any]


class UniformField(AnyField, total=False):
    """A value between two ends, both included."""

    uniform: Required[
        Annotated[
            Annotated[list[int | float], Field(min_length=2, max_length=2)]
            | Annotated[list[date], Field(min_length=2, max_length=2)]
            | Annotated[list[time], Field(min_length=2, max_length=2)]
            | Annotated[list[datetime], Field(min_length=2, max_length=2)]
            | Annotated[list[str], Field(min_length=2, max_length=2, examples=[["1 hour", "3 days"]])],
            give('[low, high], two numbers, two dates, two times or two spans of time such as "3 days"'),
        ]
    ]
    decimals: Annotated[
        int, Field(ge=0, le=15, description="digits after the point"), give("a whole number from 0 to 15")
    ]


class UuidField(AnyField, total=False):
    """A random UUID."""

    uuid: Required[Annotated[Literal[4], give("4, the version that is random")]]


class CopyField(AnyField, total=False):
    """The value of another column of the row."""

    copy: Required[ColumnName]


class Steps(TypedDict, total=False):
    """The first number of a sequence, and the step to the next number."""

    # a million million rows of the longest step stay within 64 bits
    start: Annotated[int, Field(ge=-(2**62), le=2**62), give("a whole number from -2**62 to 2**62")]
    step: Annotated[int, Field(ge=-1_000_000, le=1_000_000), give("a whole number from -1000000 to 1000000")]


class SequenceField(AnyField, total=False):
    """Numbers in the order of the rows: 1, 2, 3, … with {}."""

    sequence: Required[Steps]


class AfterField(AnyField, total=False):
    """A time after the time in another column."""

    after: Required[ColumnName]
    within: Annotated[
        str,
        Field(description="longest time after it, in seconds, minutes, hours, days or weeks", examples=["30 days"]),
        give('a span of time, such as "30 days"'),
    ]


class CallField(AnyField, total=False):
    """Values that a function returns."""

    call: Required[Annotated[str, give('a function, such as "myapp.seed:phones"')]]
    per: Annotated[
        Literal["batch", "row"],
        Field(description="whether the function is called with many rows at once (the default), or with each row"),
        give('"row", or leave it out for a function of many rows at once'),
    ]


KINDS: Final = {
    "faker": FakerField,
    "choice": ChoiceField,
    "template": TemplateField,
    "value": ValueField,
    "uniform": UniformField,
    "uuid": UuidField,
    "copy": CopyField,
    "sequence": SequenceField,
    "after": AfterField,
    "call": CallField,
}
"""The kinds of fields, by the key that names the kind."""


def find_kinds(given: object) -> list[str]:
    """Return the keys of ``given`` that name a kind of field."""
    return [key for key in given if key in KINDS] if isinstance(given, Mapping) else []


def choose_tag(given: object) -> str | None:
    """Return the name of the type in ``AppField`` for ``given``; None if no key or prefix tells the type."""
    match find_kinds(given):
        case [kind]:
            return KINDS[kind].__name__
    return "FakerText" if isinstance(given, str) and given.startswith("faker:") else None


FakerText = Annotated[str, Field(pattern="^faker:", examples=["faker:phone_number"])]
AppField = Annotated[
    Annotated[FakerText, Tag("FakerText")]
    | Annotated[FakerField, Tag("FakerField")]
    | Annotated[ChoiceField, Tag("ChoiceField")]
    | Annotated[TemplateField, Tag("TemplateField")]
    | Annotated[ValueField, Tag("ValueField")]
    | Annotated[UniformField, Tag("UniformField")]
    | Annotated[UuidField, Tag("UuidField")]
    | Annotated[CopyField, Tag("CopyField")]
    | Annotated[SequenceField, Tag("SequenceField")]
    | Annotated[AfterField, Tag("AfterField")]
    | Annotated[CallField, Tag("CallField")],
    Discriminator(choose_tag),
]

Relationship = TypedDict(
    "Relationship",
    {
        "from": Annotated[Side, Field(description="table of which each row is linked to rows of the other")],
        "to": Annotated[Side, Field(description="table of the rows that it is linked to")],
        "min": Annotated[
            int,
            Field(ge=0, le=2**63 - 1, description="fewest links of a row"),
            give("a whole number from 0"),
        ],
        "max": Annotated[
            int,
            Field(ge=1, le=2**63 - 1, description="most links of a row"),
            give("a whole number from 1"),
        ],
        "columns": Annotated[
            list[str],
            Field(
                min_length=2,
                max_length=3,
                description="the two columns of ids, and a column of times, if any",
                json_schema_extra={"uniqueItems": True},
            ),
            give("the names of the two columns of ids, and of a column of times, if any"),
        ],
    },
)


class Rule(TypedDict):
    """A rule of the app, checked by verify."""

    name: Text
    sql: Annotated[Text, Field(description="query that returns one number, the rows that break the rule")]


class ScenarioValues(TypedDict, total=False):
    """A bulkseed scenario."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    base: Annotated[
        Text,
        Field(
            description="shipped scenario whose values this file overrides", json_schema_extra={"enum": [*shipped()]}
        ),
    ]
    schema: Annotated[str, Field(description="schema of the app's tables"), give("the name of a schema")]
    uuid: Annotated[
        Literal[4, 7],
        Field(description="version of UUID keys: 4 (random) or 7 (ascending, like ids)"),
        give("4 or 7, the version of UUID keys"),
    ]
    plugins: Annotated[Texts, Field(description="further tables, each as module:name or the name of an entry point")]
    providers: Annotated[Texts, Field(description="providers for Faker, each as module:class")]
    counts: Counts
    probabilities: Annotated[
        dict[str, Any], Section(Probabilities), Field(description="probabilities of the kinds of rows")
    ]
    shape: Annotated[dict[str, Any], Section(Shape), Field(description="distributions of the workspace")]
    tables: Annotated[dict[str, AppName], Field(description="the app's names of bulkseed's tables")]
    columns: Annotated[
        dict[str, dict[str, AppName]], Field(description="the app's names of bulkseed's columns, by bulkseed's table")
    ]
    fields: Annotated[
        dict[str, dict[str, AppField]],
        Field(description="values of the app's other columns, by bulkseed's table and the app's column"),
    ]
    relationships: Annotated[dict[str, Relationship], Field(description="tables of pairs, by name")]
    rules: Annotated[list[Rule], Field(description="rules that verify checks in addition to bulkseed's own")]


FILE: Final = TypeAdapter[ScenarioValues](ScenarioValues)


class WithoutTitles(GenerateJsonSchema):
    """A generator without titles, which would repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False for every key."""
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file."""
    schema = FILE.json_schema(schema_generator=WithoutTitles)
    return {"$schema": GenerateJsonSchema.schema_dialect} | schema | {"title": "bulkseed scenario"}


def check_structure(values: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the problems in the structure of a file, in the order of the definition above: the keys that lead to the
    wrong value, and the problem with its fix. ``values`` are as tomllib returns them.
    """
    try:
        FILE.validate_python(values)
    except ValidationError as error:
        return list(list_problems(error))
    return []


def list_problems(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the keys of each problem, and the problem with its fix."""
    schema = FILE.json_schema()
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        # pydantic puts the name of the type after the name of a field
        keys = location[:3] + location[4:] if location[0] == "fields" else location
        known = find_keys(location[:-1], schema) if detail["type"] == "extra_forbidden" else []
        yield keys, explain(detail, keys, known)


def find_keys(location: tuple[str | int, ...], schema: Mapping[str, Any]) -> list[str]:
    """Return the keys that the table at ``location`` may have."""
    types: Mapping[str, Any] = schema["$defs"]
    node: Mapping[str, Any] = schema
    for part in location:
        if "oneOf" in node:
            node = types[str(part)]
        elif isinstance(part, int):
            node = node["items"]
        else:
            node = node["properties"][part] if part in node.get("properties", ()) else node["additionalProperties"]
        node = types[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return list(node.get("properties", ()))


def explain(detail: ErrorDetails, keys: tuple[str | int, ...], known: list[str]) -> str:
    """Return a problem with its fix; ``known`` are the keys that may be in place of an unknown one."""
    given, key = detail["input"], str(keys[-1])
    match detail["type"]:
        case "give":
            return f"{detail['msg']}, not {show(given)}"
        case "extra_forbidden":
            fix = suggestion(key, known, f"remove it, or use one of {', '.join(known)}")
            return f"this key is not known: {fix}"
        case "missing":
            return "this key is missing: add it"
        case "union_tag_not_found":
            return explain_kind(given)
        case "list_type":
            return f"write it as a list of tables, [[{key}]], not {show(given)}"
    header = ".".join(part for part in keys if isinstance(part, str))
    return f"write it as a table, {f'[{header}]' if key == keys[-1] else f'[[{header}]]'}, not {show(given)}"


def explain_kind(given: object) -> str:
    """Return the problem of a field that is not of exactly one kind, with its fix."""
    kinds, every = find_kinds(given), ", ".join(KINDS)
    if kinds:
        return f"a field has one kind, not {' and '.join(kinds)}: keep one of them"
    if not isinstance(given, Mapping):
        return (
            f'{show(given)} is not a field: write "faker:METHOD", {{ value = … }} for the same value in all rows, or a '
            f"table with one of {every}"
        )
    otherwise = f"give one of {every}"
    suggestions = (suggestion(key, KINDS, otherwise) for key in given)
    fix = next((text for text in suggestions if text != otherwise), otherwise)
    return f"the field {show(given)} has no kind: {fix}"


def show(value: object) -> str:
    """Return a value nearly as TOML writes it, shortened to MOST_SHOWN characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
