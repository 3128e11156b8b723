"""The structure of a scenario file, described once: what may be where, and of which type.

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
from bulkseed.text.faker_source import MOST_VALUES

__all__ = ["ScenarioValues", "check_structure", "json_schema"]

STRICT: Final = ConfigDict(extra="forbid", strict=True)
"""No unknown keys, no texts for numbers."""

MOST_SHOWN: Final = 60
"""Characters of a value in an error."""


def give(what: str) -> WrapValidator:
    """Make a validator with one error for all wrong values: the advice to give ``what``."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("give", "give {what}", {"what": what}) from None

    return WrapValidator(check)


Text = Annotated[str, give("a text")]
Texts = Annotated[list[str], give('a list of texts, such as ["myapp.seed:name"]')]
Count = Annotated[int, Field(ge=1), give("a whole number from 1")]
Share = Annotated[float, Field(ge=0, le=1), give("a number from 0 to 1")]
AppName = Annotated[str | Literal[False], give("the name that the app has for it, or false where it has none")]
ColumnName = Annotated[str, give('the name of a column, such as "created_at"')]
Side = Annotated[Literal["users", "channels", "messages"], give("users, channels or messages")]


class Counts(TypedDict, total=False):
    """How much there is at a scale of 1x."""

    users: Annotated[Count, Field(description="users of the workspace")]
    channels: Annotated[Count, Field(description="channels, DMs among them")]
    messages_per_channel: Annotated[
        Count, Field(description="top-level messages (before replies), as a mean over all channels")
    ]


class Section:
    """The type of a section whose keys are the parameters of a dataclass (``parameters.py``)."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        types, parameters = get_type_hints(self.kind), {}
        for each in fields(self.kind):
            known = each.metadata
            about = Field(ge=known["least"], le=known["most"], description=known["description"])
            fix = give(describe_range(str(each.type), known))
            parameters[each.name] = (Annotated[types[each.name], about, fix], each.default)
        model = create_model(self.kind.__name__, __config__=STRICT, **parameters)  # type: ignore[call-overload]
        return handler.generate_schema(model)


class AnyField(TypedDict, total=False):
    """The keys that every kind of field may have."""

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
        Field(ge=1, le=MOST_VALUES, description="how many values Faker makes, for rows to draw from; 1000 by default"),
        give(f"a whole number from 1 to {MOST_VALUES}"),
    ]
    unique: Annotated[
        bool, Field(description="put the row's id into each text, so that all differ"), give("true or false")
    ]


class ChoiceField(AnyField, total=False):
    """One of a list of values."""

    choice: Required[Annotated[list[Any], Field(min_length=1), give("a list of values")]]
    weights: Annotated[
        list[Annotated[float, Field(ge=0)]],
        Field(description="how often each value is chosen, relative to the others"),
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
            | Annotated[list[datetime], Field(min_length=2, max_length=2)],
            give("[low, high], two numbers, two dates or two times"),
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
    """Where a sequence starts, and how far apart its numbers are."""

    # a million million rows of the longest step stay within 64 bits
    start: Annotated[int, Field(ge=-(2**62), le=2**62), give("a whole number from -2**62 to 2**62")]
    step: Annotated[int, Field(ge=-1_000_000, le=1_000_000), give("a whole number from -1000000 to 1000000")]


class SequenceField(AnyField, total=False):
    """Numbers in the order of the rows; from 1 by 1 with {}."""

    sequence: Required[Steps]


class AfterField(AnyField, total=False):
    """A time after that of another column."""

    after: Required[ColumnName]
    within: Annotated[
        str,
        Field(description="the longest time after it, in seconds to weeks", examples=["30 days"]),
        give('a span of time, such as "30 days"'),
    ]


class CallField(AnyField, total=False):
    """The values that a function returns."""

    call: Required[Annotated[str, give('a function, such as "myapp.seed:phones"')]]
    per: Annotated[
        Literal["batch", "row"],
        Field(description="whether it is called with many rows at once (the default), or with each"),
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
"""The kinds of fields, by the key that names each."""


def find_kinds(given: object) -> list[str]:
    return [key for key in given if key in KINDS] if isinstance(given, Mapping) else []


def choose_tag(given: object) -> str | None:
    """Return the name of the type in ``AppField`` to check ``given`` by; None where no key or prefix tells it."""
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
        "from": Annotated[Side, Field(description="the table of which each row gets some rows of the other")],
        "to": Annotated[Side, Field(description="the table that they are taken from")],
        "min": Annotated[int, Field(ge=0, le=2**63 - 1), give("a whole number from 0")],
        "max": Annotated[int, Field(ge=1, le=2**63 - 1), give("a whole number from 1")],
        "columns": Annotated[
            list[str],
            Field(
                min_length=2,
                max_length=3,
                description="the two columns of ids, and one of moments if there is one",
                json_schema_extra={"uniqueItems": True},
            ),
            give("two names of columns, and a third for the moment if there is one"),
        ],
    },
)


class Rule(TypedDict):
    """A rule of the app's own, for verify."""

    name: Text
    sql: Annotated[Text, Field(description="a query of one number: how many rows break the rule")]


class ScenarioValues(TypedDict, total=False):
    """A scenario of bulkseed."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    base: Annotated[
        Text, Field(description="the shipped scenario to begin with", json_schema_extra={"enum": [*shipped()]})
    ]
    schema: Annotated[str, Field(description="the schema of the app's tables"), give("the name of a schema")]
    uuid: Annotated[
        Literal[4, 7],
        Field(description="the version in whose form UUID keys are made: 4 (random) or 7 (in the order of time)"),
        give("4 or 7, the version in whose form UUID keys are made"),
    ]
    plugins: Annotated[Texts, Field(description="further tables, each as module:name or the name of an entry point")]
    providers: Annotated[Texts, Field(description="providers for Faker, each as module:class")]
    counts: Counts
    probabilities: Annotated[dict[str, Any], Section(Probabilities), Field(description="how often rows are of a kind")]
    shape: Annotated[dict[str, Any], Section(Shape), Field(description="the distributions of the workspace")]
    tables: Annotated[dict[str, AppName], Field(description="the app's name of each table of bulkseed's")]
    columns: Annotated[
        dict[str, dict[str, AppName]], Field(description="the app's name of each column, by bulkseed's table")
    ]
    fields: Annotated[
        dict[str, dict[str, AppField]],
        Field(description="what fills the app's other columns, by bulkseed's table and the app's column"),
    ]
    relationships: Annotated[dict[str, Relationship], Field(description="tables of pairs, by name")]
    rules: Annotated[list[Rule], Field(description="what verify is to prove besides bulkseed's own rules")]


FILE: Final = TypeAdapter[ScenarioValues](ScenarioValues)


class WithoutTitles(GenerateJsonSchema):
    """Without the titles that would repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Of no key."""
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    found = FILE.json_schema(schema_generator=WithoutTitles)
    return {"$schema": GenerateJsonSchema.schema_dialect} | found | {"title": "bulkseed scenario"}


def check_structure(values: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """List the problems in the structure of a file, in the order of its description: the keys that lead to each, and
    the problem with its fix. ``values`` are as tomllib returns them.
    """
    try:
        FILE.validate_python(values)
    except ValidationError as error:
        return list(list_problems(error))
    return []


def list_problems(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    schema = FILE.json_schema()
    for each in error.errors(include_url=False):
        where = each["loc"]
        # after the name of a field there is that of its type
        place = where[:3] + where[4:] if where[0] == "fields" else where
        known = find_keys(where[:-1], schema) if each["type"] == "extra_forbidden" else []
        yield place, explain(each, place, known)


def find_keys(where: tuple[str | int, ...], schema: Mapping[str, Any]) -> list[str]:
    """The keys that the table at a place may have."""
    types: Mapping[str, Any] = schema["$defs"]
    node: Mapping[str, Any] = schema
    for part in where:
        if "oneOf" in node:
            node = types[str(part)]
        elif isinstance(part, int):
            node = node["items"]
        else:
            node = node["properties"][part] if part in node.get("properties", ()) else node["additionalProperties"]
        node = types[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return list(node.get("properties", ()))


def explain(error: ErrorDetails, place: tuple[str | int, ...], known: list[str]) -> str:
    given, key = error["input"], str(place[-1])
    match error["type"]:
        case "give":
            return f"{error['msg']}, not {show(given)}"
        case "extra_forbidden":
            fix = suggestion(key, known, f"remove it, or use one of {', '.join(known)}")
            return f"this key is not known: {fix}"
        case "missing":
            return "this key is missing: add it"
        case "union_tag_not_found":
            return explain_kind(given)
        case "list_type":
            return f"write it as a list of tables, [[{key}]], not {show(given)}"
    header = ".".join(part for part in place if isinstance(part, str))
    return f"write it as a table, {f'[{header}]' if key == place[-1] else f'[[{header}]]'}, not {show(given)}"


def explain_kind(given: object) -> str:
    kinds, every = find_kinds(given), ", ".join(KINDS)
    if kinds:
        return f"{' and '.join(kinds)} both say what fills it: leave one"
    if not isinstance(given, Mapping):
        return (
            f'{show(given)} does not say what fills it: write "faker:METHOD", {{ value = … }} for the same in all '
            f"rows, or a table with one of {every}"
        )
    otherwise = f"give one of {every}"
    near = (suggestion(key, KINDS, otherwise) for key in given)
    fix = next((each for each in near if each != otherwise), otherwise)
    return f"nothing in {show(given)} says what fills it: {fix}"


def show(value: object) -> str:
    """A value about as TOML writes it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
