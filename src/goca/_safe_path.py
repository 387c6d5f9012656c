"""Code is imported from where Python and goca are installed, never from the folder that a command happens to run in.

``python -m``, an empty entry of ``PYTHONPATH`` and child processes would put the current folder first. Only ``sys`` and
``os`` are imported here, which Python itself has loaded by then.
"""

import os
import sys


def guard() -> None:
    """Take the current folder off the search path where this process is the program ``goca``, and keep it off that of
    every child process (from Python 3.11 on, by ``PYTHONSAFEPATH``)."""
    if is_program():
        sys.path[:] = safe_path()
        os.environ["PYTHONSAFEPATH"] = "1"


def is_program() -> bool:
    """Whether this process was started as ``goca`` or ``python -m goca``, rather than by somebody's own code."""
    first = (getattr(sys, "argv", None) or [""])[0]
    if first == "-m":  # the module is still being looked for
        module = sys.orig_argv[-len(sys.argv)]
        return module == "goca" or module.startswith("goca.") or (module.startswith("-") and "mgoca" in module)
    return os.path.basename(first) in ("goca", "goca.exe")


def safe_path() -> list[str]:
    """The search path without the current folder, unless ``PYTHONPATH`` names it, or goca itself lies there: then it
    comes last."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # the folder was removed
        return [entry for entry in sys.path if entry]
    environment = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    named = [os.path.realpath(entry) for entry in environment.split(os.pathsep) if entry]
    path = [entry for entry in sys.path if here in named or os.path.realpath(entry or here) != here]
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return path if home in map(os.path.realpath, path) else [*path, home]


def child_command(module: str, arguments: list[str]) -> list[str]:
    """The command that runs a module as a program of its own, on this process's search path without the current
    folder."""
    code = (
        f"import sys; sys.path[:] = {safe_path()!r}; import runpy; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code, *arguments]
