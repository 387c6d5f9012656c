"""Captions from any server that speaks OpenAI's chat completions, hosted or local."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from goca.captioning.bounded import bounded_client
from goca.captioning.replies import quote, read_reply
from goca.captioning.request import REQUEST, Reply, SourceError
from goca.ranges import LONGEST_WAIT, SHORTEST_WAIT, check_number, check_whole
from goca.render import data_uri

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_SIDE = 1024
JPEG_QUALITY = 90
LONGEST_ANSWER = 1024
MOST_RETRIES = 100

_UNKNOWN_FIELD = (
    "max_completion_tokens|max_tokens|extra|unknown|unrecogni[sz]ed|unexpected|unsupported param|not permitted"
)
_BROKEN = ("ReadError", "WriteError", "RemoteProtocolError", "DecodingError")


class Server:
    """Ask a model on a server; :class:`SourceError` where it refuses everything, ``ValueError`` for one image.

    The key is read from the environment variable ``OPENAI_API_KEY`` and never part of a message. Overload, server
    errors and timeouts are tried again with growing pauses.

    Args:
        model: name of the model on the server.
        base_url: such as ``http://localhost:8000/v1``; OpenAI's own by default. It needs no key where the server wants
            none.
        timeout: seconds that one answer may take.
        retries: how often one question is put again when the server fails.
        question: what every image is asked.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        question: str = REQUEST,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ValueError("captions from a server need the openai package: pip install 'goca[caption]'") from None
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if base_url is None and not self._key:
            raise ValueError(
                f"no key: set the environment variable {KEY_VARIABLE}, or name a local server with --base-url"
            )
        if base_url is not None:
            _check_url(base_url)
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(f"{KEY_VARIABLE} holds characters that no key has; copy the key again")
        check_number("the timeout in seconds", timeout, SHORTEST_WAIT, LONGEST_WAIT)
        check_whole("the number of retries", retries, 0, MOST_RETRIES)
        self._model = model
        self._timeout = timeout
        self._question = question
        self._openai = openai
        self._limit_name = "max_completion_tokens"
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=base_url,
            timeout=timeout,
            max_retries=retries,
            http_client=bounded_client(openai.DefaultHttpxClient, float(timeout)),
        )

    def __call__(self, image: Image.Image, attempt: int) -> Reply:
        openai = self._openai
        try:
            reply = read_reply(self._post(data_uri(image, LONGEST_SIDE, JPEG_QUALITY)))
            return replace(reply, text=self._redact(reply.text), problem=self._redact(reply.problem))
        except openai.APIStatusError as error:
            raise self._explain(error) from None
        except openai.APITimeoutError:
            raise self._late() from None
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in _BROKEN:
                raise ValueError("the server broke off its answer; try again, or another server") from None
            raise SourceError(f"cannot reach {self._client.base_url}; check the address and the connection") from None

    def _post(self, picture: str) -> bytes:
        """The body of the server's answer. Where it refuses the name of the limit of tokens, the older one is used."""
        openai = self._openai
        content = [{"type": "text", "text": self._question}, {"type": "image_url", "image_url": {"url": picture}}]

        def ask(limit_name: str) -> bytes:
            limit: dict[str, Any] = {limit_name: LONGEST_ANSWER}
            create = self._client.chat.completions.with_raw_response.create
            answer = create(model=self._model, messages=[{"role": "user", "content": content}], **limit)
            return answer.http_response.content

        limit_name = self._limit_name
        try:
            return ask(limit_name)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if limit_name == "max_tokens" or not re.search(_UNKNOWN_FIELD, str(error), re.IGNORECASE):
                raise
        answer = ask("max_tokens")
        self._limit_name = "max_tokens"
        return answer

    def _explain(self, error: Any) -> SourceError | ValueError:
        """What to do about a status that is no success, and the server's reason."""
        status, reason = error.status_code, f"({quote(self._redact(str(error)))})"
        if 300 <= status < 400:
            target = quote(self._redact(error.response.headers.get("location", "nowhere")))
            return SourceError(f"the server redirects to {target}; if you trust that one, name it with --base-url")
        if status in (401, 402, 403, 404):
            return SourceError(f"the server refuses; check the key, the address and the model {reason}")
        if status == 429 and error.code == "insufficient_quota":
            return SourceError(f"the account has no quota left {reason}")
        if status == 429:
            return ValueError(f"the server stays overloaded; ask for fewer at a time {reason}")
        if status == 408:
            return self._late()
        return ValueError(f"the server {'failed' if status >= 500 else 'refuses this question'} {reason}")

    def _late(self) -> ValueError:
        return ValueError(f"the server did not answer within {self._timeout:g} seconds")

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "...") if self._key else text


def _check_url(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{base_url!r} is no address of a server; check its port and brackets") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{base_url!r} is no address of a server; write something like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError(f"a key does not belong into the address of the server; set {KEY_VARIABLE} instead")
