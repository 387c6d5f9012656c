"""What a server's or a model's answer says: the caption without what models put around it, or why there is none."""

from __future__ import annotations

import re
from typing import Any

from goca.captioning.request import Reply
from goca.messages import one_line
from goca.storage.json_reader import parse_json

LONGEST_REASON = 300
_AGAIN = (408, 409, 429)  # statuses below 500 that may pass
_THOUGHT = r"think|thinking|thought|reasoning|analysis"
_QUOTES = ('""', "''", "``", "**", "__", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
_END_OF_TURN = r"<\|(?:im_end|eot_id|end|endoftext|end_of_text|return|eos)\|>|<end_of_turn>|<eos>|</s>|\[/?INST\]"


def final_answer(text: str) -> str:
    """The last thing that a model says, without thoughts, end-of-turn marks, fences, an "Answer:" and quotes.

    An answer that ends inside a thought is empty.
    """
    text = re.split(rf"</(?:{_THOUGHT})>", text, flags=re.IGNORECASE)[-1]
    text = re.split(rf"<(?:{_THOUGHT})>", text, flags=re.IGNORECASE)[0]
    text = text.split("<|channel|>final<|message|>")[-1]
    turns = re.split(_END_OF_TURN, text)
    text = next((turn for turn in turns if turn.strip()), "")
    text = re.sub(r"<\|[\w/ ]{1,30}\|>", "", text).strip()
    fenced = re.search(r"```[ \t]*\w*[ \t]*\n?(.*?)(?:```|$)", text, flags=re.DOTALL)
    text = fenced[1].strip() if fenced and fenced[1].strip() else text
    label = r"(?:\*\*|__)?\b(?:final answer|answer|caption|output|line)\b(?:\*\*|__)?[ \t]*:(?:\*\*|__)?"
    text = re.split(label, text, flags=re.IGNORECASE)[-1].strip()
    previous = None
    while text != previous:
        previous = text
        bare = text.strip(". ")
        if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
            text = bare[1:-1].strip()
    return text


def read_reply(content: bytes) -> Reply:
    """The reply in the body of a successful response, whatever it holds."""
    try:
        document = parse_json(content, "the answer")
    except ValueError:
        start = quote(content[:80].decode("utf-8", "replace"))
        return Reply("", problem=f"the server sent no JSON but '{start}'; check the address")
    if not isinstance(document, dict):
        return Reply("", problem="the server's JSON is no answer in OpenAI's form; check the address")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        reason, final = _read_error(document.get("error"))
        return Reply("", *tokens, problem=f"the server sent no answer{reason}", final=final)
    text, refusal = _join_parts(message.get("content")), message.get("refusal")
    if choice.get("finish_reason") == "content_filter" or (isinstance(refusal, str) and refusal and not text.strip()):
        reason = f" ({quote(refusal)})" if isinstance(refusal, str) and refusal else ""
        return Reply("", *tokens, problem=f"the model refuses to describe this image{reason}", final=True)
    if choice.get("finish_reason") == "length":
        return Reply("", *tokens, problem="the answer was cut short: it was longer than the server or goca allows")
    if not text.strip() and choice.get("error"):
        reason, final = _read_error(choice["error"])
        return Reply("", *tokens, problem=f"the server sent no answer{reason}", final=final)
    return Reply(text, *tokens)


def quote(text: str) -> str:
    """What somebody else wrote, as part of a message: one line of about :data:`LONGEST_REASON` characters at most."""
    return one_line(text, LONGEST_REASON)


def _read_error(error: Any) -> tuple[str, bool]:
    """The reason that an error in the body of an answer gives, in brackets, and whether it will stay."""
    if isinstance(error, str):
        return f" ({quote(error)})", False
    if not isinstance(error, dict):
        return "", False
    code, message = error.get("code"), error.get("message")
    number = int(code) if isinstance(code, int) or (isinstance(code, str) and re.fullmatch(r"\d{3}", code)) else 0
    reason = f" ({quote(message)})" if isinstance(message, str) and message else ""
    return reason, 400 <= number < 500 and number not in _AGAIN


def _join_parts(content: Any) -> str:
    """The text of a message, which may come in parts."""
    parts = content if isinstance(content, list) else [content]
    texts = (
        part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "output_text", None) else part
        for part in parts
    )
    return "".join(text for text in texts if isinstance(text, str))


def _count(value: Any) -> int:
    """A number of tokens; what is none counts 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0
