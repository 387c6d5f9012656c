"""The earlier place of :mod:`goca.text.prompt` and :func:`goca.text.spans.find_words`, for programs that import it."""

from goca.text.prompt import build_prompt
from goca.text.spans import find_words

__all__ = ["build_prompt", "find_words"]
