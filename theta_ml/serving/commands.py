"""`theta chat`: talk with the champion in a terminal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from theta_ml.settings import Settings, load_settings
from theta_ml.stage import StageFailed, StageRetry
from theta_ml.store import ArtifactMissing, Store

if TYPE_CHECKING:
    from theta_ml.champion import Champion
    from theta_ml.corpus.tokenizer import Message

Answer = Callable[[list["Message"]], str]
"""From the conversation so far to the next answer, which it also writes to stdout, token by token."""


@click.command()
@click.argument("question", required=False)
@click.option("--temperature", default=0.8, show_default=True, help="0 takes the likeliest token each time.")
@click.option("--top-p", default=0.95, show_default=True, help="Share of the probability the nucleus makes up.")
@click.option("--max-tokens", default=128, show_default=True, help="Longest answer.")
@click.option("--seed", type=int, help="The same seed gives the same answers.")
def chat(question: str | None, temperature: float, top_p: float, max_tokens: int, seed: int | None) -> None:
    """Talk with the champion; with a QUESTION, print its answer and leave.

    The answer is streamed as it is made. An empty line, Ctrl-D or Ctrl-C ends the conversation.
    """
    settings = load_settings()
    champion, folder = _champion(settings)
    click.echo(f"champion v{champion.version}, trained up to {champion.month}", err=True)
    answer = _speaker(folder, temperature, top_p, max_tokens, seed)
    try:
        if question is not None:
            answer([{"role": "user", "content": question}])
        else:
            _converse(answer)
    except (KeyboardInterrupt, EOFError, click.Abort):
        click.echo()


def _converse(answer: Answer) -> None:
    conversation: list[Message] = []
    while question := _ask():
        conversation.append({"role": "user", "content": question})
        conversation.append({"role": "assistant", "content": answer(conversation)})


def _ask() -> str:
    if sys.stdin.isatty():
        return input("> ").strip()
    return sys.stdin.readline().strip()  # a pipe: questions line by line, no prompt among the answers


def _champion(settings: Settings) -> "tuple[Champion, Path]":
    """The champion and its model's folder, fetched where artifacts lie in a bucket."""
    from theta_ml.registry.champion import in_service

    try:
        champion = in_service(settings)
        if champion is None:
            raise click.ClickException("no champion yet: `theta retrain --month YYYY-MM --bootstrap --wait` makes one")
        return champion, Store(settings.artifacts, settings.home / "cache").open(champion.uri).path / "model"
    except (StageRetry, StageFailed) as error:
        raise click.ClickException(f"{error}; `theta status` tells what is running") from None
    except ArtifactMissing as error:
        raise click.ClickException(f"the champion's files are gone: {error}") from None


def _speaker(folder: Path, temperature: float, top_p: float, max_tokens: int, seed: int | None) -> Answer:
    from theta_ml.model.generation import Sampling, TextStream, generate_reply
    from theta_ml.model.loading import load

    try:
        sampling = Sampling(temperature, top_p, max_tokens, seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    model, tokenizer = load(folder)

    def answer(conversation: "list[Message]") -> str:
        stream = TextStream(tokenizer, lambda text: click.echo(text, nl=False))
        reply = generate_reply(model, tokenizer, conversation, sampling, stream)
        click.echo()
        return reply

    return answer
