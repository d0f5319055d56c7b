"""`theta data`: what a corpus is made of."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from theta_ml.corpus.catalog import Catalog, Dataset
    from theta_ml.corpus.statistics import Statistics
    from theta_ml.settings import Settings

FORMATS = ("messages", "sharegpt", "alpaca", "text", "csv", "parquet")
_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".txt": "text", ".md": "text"}
_HUB_ROWS = 100
_SHORT = 240
"""Characters of a message that `show` prints."""


@click.group()
def data() -> None:
    """What a corpus is made of: the landing zone, and datasets beside it.

    \b
    theta data list                  what there is, how much, and with what weight
    theta data show smartass         one of them, with two conversations
    theta data add smartass --weight 0.5
    theta data add support --path tickets.csv --licence LicenseRef-Own --column content=text

    Your own entries stand in $THETA_HOME/catalog.yaml (or the file THETA_CATALOG names) over the built-in ones.
    """


@data.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON; conversations is null where unknown.")
def list_(as_json: bool) -> None:
    """Every dataset: how many conversations, weight, licence, source, format.

    A weight of 1 shows each conversation once an epoch, 0.5 half of them, 2 twice. Sets that are off stand there
    as examples: `theta data add ID --enable` takes one in, once you have read its licence.
    """
    with _faults() as settings:
        rows = [_row(dataset, settings) for dataset in _catalog(settings).datasets]
    if as_json:
        _json(rows)
    else:
        _print_list(rows)


def _row(dataset: "Dataset", settings: "Settings") -> dict[str, Any]:
    conversations, note = _conversations(dataset, settings)
    fields = ("id", "category", "title", "licence", "source", "format", "weight", "enabled")
    shown = dataset.model_dump(include=set(fields))
    return {name: shown[name] for name in fields} | {"conversations": conversations, "note": note}


def _conversations(dataset: "Dataset", settings: "Settings") -> tuple[int | None, str]:
    """How many, or None and why that is unknown."""
    from theta_ml.corpus.statistics import counted_before, landed
    from theta_ml.landing.database import DatabaseUnreachable
    from theta_ml.settings import SettingsError
    from theta_ml.stage import StageFailed

    try:
        if dataset.source == "landing":
            return landed(settings), ""
        counted = counted_before(dataset, settings)
    except (SettingsError, DatabaseUnreachable, StageFailed) as error:
        return None, str(error)
    if counted is None:
        return None, f"not counted yet; `theta data stats {dataset.id}` fetches and counts it"
    rejected = sum(counted.rejected.values())
    return counted.conversations, f"{rejected} rows rejected: `theta data stats {dataset.id}`" if rejected else ""


def _print_list(rows: list[dict[str, Any]]) -> None:
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("id", "category", "count", "weight", "licence", "source", "format"):
        table.add_column(title, justify="right" if title in ("count", "weight") else "left", no_wrap=title == "id")
    for row in rows:
        number = "–" if row["conversations"] is None else f"{row['conversations']:,}"
        on = row["enabled"] and row["weight"] > 0
        weight = f"{row['weight']:g}" if on else "off"
        format_ = "" if row["source"] == "landing" else row["format"]
        cells = (row["id"], row["category"], number, weight, row["licence"], row["source"], format_)
        table.add_row(*cells, style=None if on else "dim")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for row in rows:
        if row["note"] and row["enabled"]:
            click.echo(f"{row['id']}: {row['note']}")


@data.command()
@click.argument("dataset_id", metavar="ID")
@click.option("--path", help="A file or a glob ('logs/*.jsonl.gz'); quote a glob.")
@click.option("--hub", metavar="OWNER/NAME", help="A public set by its hub id.")
@click.option("--config", help="Of a hub set, where it has several.")
@click.option("--split", help="Of a hub set: which of its published splits.  [default: train]")
@click.option("--revision", help="Of a hub set: a branch, tag or commit.")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="What a row looks like.  [default: from the file's name]"
)
@click.option("--licence", metavar="SPDX", help="Such as MIT or CC-BY-4.0; LicenseRef-NAME for terms of your own.")
@click.option("--weight", type=click.FloatRange(0, 100), help="How many times an epoch shows each conversation.")
@click.option("--category", help="A word to find it by.  [default: own]")
@click.option("--title")
@click.option("--language", "languages", multiple=True, help="Spoken there, as ISO 639-1; may be given again.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many conversations, the first ones.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="What the file calls a field.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether corpora take from it.")
@click.option("--json", "as_json", is_flag=True, help="Print the entry and its counts as JSON.")
def add(dataset_id: str, as_json: bool, **options: Any) -> None:
    """Add a dataset, or change fields of one that is there.

    \b
    theta data add tickets --path tickets.jsonl --format sharegpt --licence MIT --weight 0.5
    theta data add faq --path faq.csv --licence CC-BY-4.0 --column instruction=question --column output=answer
    theta data add dolly --enable            a public set of the built-in catalog
    theta data add smartass --weight 0.5     less of a built-in one

    The dataset is read first: what is counted is shown, and what holds nothing is refused. Formats: messages (JSON
    lines, as OpenAI's fine-tuning takes them), sharegpt, alpaca, text (turns `User: …`, `Assistant: …`, a blank line
    between conversations), csv (conversation_id, role, content; or instruction, output), parquet; all but the last may
    be .gz. Conversations are redacted as they are read.
    """
    from theta_ml.corpus.catalog import write_entry

    with _faults() as settings:
        known = next((dataset for dataset in _catalog(settings, True).datasets if dataset.id == dataset_id), None)
        fields = _fields(known, options)
        dataset = _merged(dataset_id, known, fields, settings)
        counted = _checked(dataset, settings) if _changes_rows(fields) else None
        if "licence" in fields:
            fields["licence"] = dataset.licence  # as SPDX spells it
        path = write_entry(settings, dataset_id, fields)
    if as_json:
        _json({**dataset.model_dump(), "catalog": str(path), "counts": counted and _plain(counted)})
        return
    if counted:
        _print_counts(counted, first=_HUB_ROWS if dataset.source == "hub" else None)
    state = f"weight {dataset.weight:g}" if dataset.active else "off"
    click.echo(f"{dataset_id} ({dataset.licence}, {state}) stands in {path}")


def _fields(known: "Dataset | None", options: dict[str, Any]) -> dict[str, Any]:
    """What the options say, and what a new entry needs beside."""
    from pathlib import Path

    fields = {name: value for name, value in options.items() if value is not None and value != ()}
    if {"path", "hub"} <= fields.keys():
        raise click.UsageError("--path FILE or --hub OWNER/NAME: a dataset comes from one of them")
    if "format_" in fields:
        fields["format"] = fields.pop("format_")
    if "columns" in fields:
        fields["columns"] = dict(_pair(column) for column in fields["columns"])
    if "languages" in fields:
        fields["languages"] = list(fields["languages"])
    if "path" in fields:
        fields["path"] = str(Path(fields["path"]).expanduser().absolute())
        fields |= {"source": "file", "hub": None}
    elif "hub" in fields:
        if fields["hub"].startswith((".", "/", "~")):  # a copy
            fields["hub"] = str(Path(fields["hub"]).expanduser().absolute())
        fields |= {"source": "hub", "path": None}
    if known is None:
        if "source" not in fields:
            raise click.UsageError("a new dataset needs --path FILE or --hub OWNER/NAME")
        if "licence" not in fields:
            raise click.UsageError(
                "a new dataset needs --licence SPDX, such as MIT; LicenseRef-NAME for your own terms"
            )
        suffixes = Path(fields.get("path", "")).suffixes
        guessed = next((_SUFFIXES[suffix] for suffix in suffixes[-2:] if suffix in _SUFFIXES), "messages")
        fields = {"category": "own", "format": guessed} | fields
    elif not fields:
        raise click.UsageError("nothing to change; `theta data add --help` shows the options")
    return {name: value for name, value in fields.items() if value is not None or known is not None}


def _pair(column: str) -> tuple[str, str]:
    ours, equals, theirs = column.partition("=")
    if not equals or not ours or not theirs:
        raise click.BadParameter(f"{column!r}: write OURS=THEIRS, such as output=answer", param_hint="--column")
    return ours, theirs


def _merged(dataset_id: str, known: "Dataset | None", fields: dict[str, Any], settings: "Settings") -> "Dataset":
    from theta_ml.corpus.catalog import own_catalog, parse_entry

    before = known.model_dump() if known else {"id": dataset_id}
    return parse_entry(before | fields, own_catalog(settings))


def _changes_rows(fields: dict[str, Any]) -> bool:
    return bool(fields.keys() - {"weight", "category", "title", "licence", "languages", "enabled"}) or (
        fields.get("enabled") is True
    )


def _checked(dataset: "Dataset", settings: "Settings") -> "Statistics | None":
    """Counts; of a hub set, of its first rows. Raises ClickException where nothing in it can be learned from."""
    from theta_ml.corpus.statistics import count, statistics

    if dataset.source == "landing":
        return None
    if dataset.source == "hub":
        limit = min(dataset.limit or _HUB_ROWS, _HUB_ROWS)
        counted = count(dataset.model_copy(update={"limit": limit}), settings)
    else:
        counted = statistics(dataset, settings)
    if not counted.conversations:
        reasons = ", ".join(f"{rows:,} × {reason}" for reason, rows in counted.rejected.items())
        raise click.ClickException(
            f"{dataset.id} is not added: no row of it is a conversation ({reasons or 'it is empty'}); "
            f"it was read as {dataset.format}: try another --format, or name its fields with --column OURS=THEIRS"
        )
    return counted


@data.command()
@click.argument("dataset_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(dataset_id: str, as_json: bool) -> None:
    """One dataset: its entry, what a row of its format looks like, counts, and its first two conversations.

    They are shown redacted, as a corpus takes them, and shortened.
    """
    from theta_ml.corpus.formats import DESCRIPTIONS
    from theta_ml.stage import StageFailed

    with _faults() as settings:
        dataset = _catalog(settings).get(dataset_id)
        conversations, note = _conversations(dataset, settings)
        sample = []
        if dataset.source != "landing":
            try:
                sample = _sample(dataset, settings)
            except StageFailed as error:  # the entry is worth showing all the same
                note = str(error)
    fields = {name: value for name, value in dataset.model_dump().items() if name not in _unused(dataset)}
    if as_json:
        _json({**fields, "conversations": conversations, "note": note, "sample": sample})
        return
    _print_fields(fields)
    if dataset.source != "landing":
        click.echo(f"  {'a row':14} {DESCRIPTIONS[dataset.format]}")
    known = "–" if conversations is None else f"{conversations:,}"
    click.echo(f"  {'conversations':14} {known}{f' ({note})' if note else ''}")
    for conversation in sample:
        click.echo(f"\n{conversation['conversation_id']}")
        for message in conversation["messages"]:
            click.echo(f"  {message['role']}: {message['content']}")


def _unused(dataset: "Dataset") -> set[str]:
    """Fields that mean nothing for its source."""
    of_hub = {"hub", "config", "split", "revision"}
    return {"file": of_hub, "starter": of_hub | {"path"}, "hub": {"path"}}.get(
        dataset.source, of_hub | {"path", "format", "languages", "limit", "columns"}
    )


def _sample(dataset: "Dataset", settings: "Settings", number: int = 2) -> list[dict[str, Any]]:
    from theta_ml.corpus.sources import read

    head = dataset.model_copy(update={"limit": min(dataset.limit or number, number)})
    found = []
    for reading in read(head, settings):
        ids, messages = reading.batch.conversations["conversation_id"], reading.batch.messages
        for index, conversation_id in enumerate(ids):
            said = messages.filter(messages["conversation"] == index).select("role", "content").to_dicts()
            shortened = [{**message, "content": _shortened(message["content"])} for message in said]
            found.append({"conversation_id": conversation_id, "messages": shortened})
    return found


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHORT else f"{flat[:_SHORT].rstrip()} …"


@data.command()
@click.argument("dataset_ids", nargs=-1, metavar="[ID]…")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def stats(dataset_ids: tuple[str, ...], as_json: bool) -> None:
    """Conversations, messages, words, lengths, splits, languages, and what the newest corpora took.

    Without an ID, of all that corpora take from. Counted as the rows stand there: cleaning and deduplication come
    later, and each says what it removed in the report of `theta stage prepare`. A hub set is fetched for it.
    """
    with _faults() as settings:
        catalog = _catalog(settings)
        chosen = [catalog.get(dataset_id) for dataset_id in dataset_ids] or [d for d in catalog.datasets if d.active]
        rows = [_statistics(dataset, catalog, settings) for dataset in chosen]
    if as_json:
        _json(rows)
    else:
        for row in rows:
            _print_statistics(row)


def _statistics(dataset: "Dataset", catalog: "Catalog", settings: "Settings") -> dict[str, Any]:
    from theta_ml.corpus.statistics import landed, statistics, taken
    from theta_ml.landing.database import DatabaseUnreachable
    from theta_ml.settings import SettingsError

    row: dict[str, Any] = {"id": dataset.id, "taken": None, "note": ""}
    if dataset.source != "landing":
        row |= _plain(statistics(dataset, settings))
    try:
        if dataset.source == "landing":
            row["conversations"] = landed(settings)
        others = [other.id for other in catalog.datasets if other.source != "landing"]
        row["taken"] = [_plain(each) for each in taken(dataset, others, settings)]
    except (SettingsError, DatabaseUnreachable) as error:
        row["note"] = f"what corpora took is unknown: {error}"
    return row


def _print_statistics(row: dict[str, Any]) -> None:
    click.echo(click.style(row["id"], bold=True))
    _print_fields({name: row[name] for name in row if name not in ("id", "taken", "note") and row[name] != {}})
    for each in row["taken"] or []:
        splits = ", ".join(f"{number:,} {split}" for split, number in each["conversations"].items())
        click.echo(
            f"  {'taken':14} {splits}; {each['tokens']:,} tokens; corpus {each['corpus_key'][:12]}, {each['month']}"
        )
    if row["note"]:
        click.echo(f"  {row['note']}")


def _print_counts(counted: "Statistics", first: int | None) -> None:
    among = f" among the first {first}" if first else ""
    click.echo(
        f"{counted.conversations:,} conversations, {counted.messages:,} messages, {counted.words:,} words{among}"
    )
    for reason, rows in counted.rejected.items():
        click.echo(f"  {rows:,} rows rejected: {reason}")


def _print_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if value in (None, "", (), {}):
            continue
        if isinstance(value, dict):
            value = ", ".join(
                f"{key} {number:,}" if isinstance(number, int) else f"{key}={number}" for key, number in value.items()
            )
        elif isinstance(value, list | tuple):
            value = ", ".join(value)
        click.echo(f"  {name:14} {f'{value:,}' if type(value) is int else value}")


def _catalog(settings: "Settings", beginning: bool = False) -> "Catalog":
    from theta_ml.corpus.catalog import load_catalog

    return load_catalog(settings, beginning)


@contextmanager
def _faults() -> Iterator["Settings"]:
    """What a person should read is one line, not a traceback."""
    from theta_ml.settings import load_settings
    from theta_ml.stage import StageFailed

    try:
        yield load_settings()
    except StageFailed as error:
        raise click.ClickException(str(error)) from None


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
