"""Markup of web pages and forums, taken out of texts that were written with it; code and talk of markup stay."""

import html
import re

import polars as pl

from theta_ml.corpus.cleaning.rows import each, where

_ENTITY = r"&(?:[A-Za-z]{2,8}[0-9]{0,2}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
_BLOCK = r"p|br|div|ul|ol|li|h[1-6]|hr|blockquote|table|tr|center"
_INLINE = r"b|i|u|s|em|strong|span|a|font|small|big|sub|sup|td|th|tbody|thead"
_FORUM = r"b|i|u|s|quote|url|img|color|size|font|center|left|right|list|spoiler|email"
# What may hold markup at all: an entity, a known tag, or the end of a known forum tag.
HINT = rf"(?i){_ENTITY}|</?(?:{_BLOCK}|{_INLINE})(?:\s[^<>]{{0,500}})?/?>|\[/(?:{_FORUM})\]"

# Markup stays in code, and throughout a text that shows a page's source or talks about markup. Expressions of Python's
# that a long text could hold up are bounded: each of these reads a text once.
_CODE = re.compile(r"```[\s\S]*?(?:```|\Z)|`[^`\n]+`")
_SOURCE = re.compile(
    r"(?i)<!doctype|<\?xml|</?(?:html|head|body|script|style|form|input|button|svg|meta|link|iframe|xml|pre|code)\b"
    r"|\[code\]|\b(?:class|id|onclick)=[\"']|\b(?:html|xml|css|jsx?|bbcode|markup|tags?|entity|entities|escap\w+|php|regexp?)\b"
)
_BLOCK_TAG = re.compile(rf"(?i)[ \t]{{0,8}}</?(?:{_BLOCK})(?:\s[^<>]{{0,500}})?/?>[ \t]{{0,8}}")
_INLINE_TAG = re.compile(rf"(?i)</?(?:{_INLINE})(?:\s[^<>]{{0,500}})?/?>")
# A lone opening tag is as likely a comparison or a type's name: formatted text closes what it opens, or breaks lines.
_FORMATTED = re.compile(rf"(?i)</(?:{_BLOCK}|{_INLINE})>|<br\s*/?>|<hr\s*/?>")
_FORUM_PAIR = re.compile(rf"(?i)\[({_FORUM})(?:=[^\[\]\n]{{0,300}})?\]([^\[]{{0,4000}})\[/\1\]")
_DEPTH = 4
"""How deep nested forum tags are followed."""


def without_markup(texts: pl.Series) -> pl.Series:
    """Texts without tags of HTML's formatting, without BBCode, and with their entities decoded."""
    return where(texts.str.contains(HINT), each(_plain), texts)


def _plain(text: str) -> str:
    prose, code = _CODE.split(text), _CODE.findall(text)
    if any(map(_SOURCE.search, prose)):
        return text
    pieces = [_unmarked(prose[0])]
    for between, after in zip(code, prose[1:], strict=True):
        pieces += [between, _unmarked(after)]
    return "".join(pieces)


def _unmarked(text: str) -> str:
    if _FORMATTED.search(text):
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text))
    for _ in range(_DEPTH):
        text, found = _FORUM_PAIR.subn(r"\2", text)
        if not found:
            break
    return re.sub(_ENTITY, lambda match: html.unescape(match[0]), text)
