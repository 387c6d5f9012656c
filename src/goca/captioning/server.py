"""Captions from any server that speaks OpenAI's chat completions, hosted or local."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from PIL import Image

from goca.captioning.request import REQUEST, Reply, SourceError
from goca.render import data_uri

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_SIDE = 1024
JPEG_QUALITY = 90
LONGEST_ANSWER = 1024


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
        timeout: float = 60,
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
        self._model = model
        self._timeout = timeout
        self._question = question
        self._openai = openai
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=base_url, timeout=timeout, max_retries=retries
        )

    def __call__(self, image: Image.Image, attempt: int) -> Reply:
        openai = self._openai
        try:
            answer = self._client.chat.completions.create(
                model=self._model,
                max_completion_tokens=LONGEST_ANSWER,
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": self._question},
                            {"type": "image_url", "image_url": {"url": data_uri(image, LONGEST_SIDE, JPEG_QUALITY)}},
                        ],
                    }
                ],
            )
            choice = answer.choices[0]
            text = (choice.message.content or "") if choice.finish_reason != "length" else ""
            usage = answer.usage
            tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
            return Reply(self._redact(text), *tokens)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise SourceError(
                self._explain(error, "the server refuses; check the key, the address and the model")
            ) from None
        except openai.RateLimitError as error:
            if error.code == "insufficient_quota":
                raise SourceError(self._explain(error, "the account has no quota left")) from None
            raise ValueError(self._explain(error, "the server stays overloaded; ask for fewer at a time")) from None
        except openai.APIStatusError as error:
            raise ValueError(self._explain(error, "the server failed")) from None
        except openai.APITimeoutError:
            raise ValueError(f"the server did not answer within {self._timeout:g} seconds") from None
        except openai.APIConnectionError:
            raise SourceError(f"cannot reach {self._client.base_url}; check the address and the connection") from None
        except (openai.APIError, ValueError, AttributeError, IndexError, TypeError):
            return Reply("")  # not the protocol's structure: nonsense, which is asked again

    def _explain(self, error: Exception, advice: str) -> str:
        return f"{advice} ({self._redact(' '.join(str(error).split()))[:300]})"

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "...") if self._key else text


def _check_url(base_url: str) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{base_url!r} is no address of a server; write something like http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError(f"a key does not belong into the address of the server; set {KEY_VARIABLE} instead")
