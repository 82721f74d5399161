"""Run a script many times in one process, since importing its framework takes longer than its work.

    python drive.py SCRIPT.py < LINES

Each line is a JSON list of arguments of the script, which has ``parse_arguments`` and ``convert``. For each a
JSON line of two entries is printed: whether the script was content, and what it said.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path


def main() -> None:
    script = Path(sys.argv[1])
    lines = sys.stdin.read().splitlines()
    answers = os.fdopen(os.dup(1), "w")  # some exporters print, from C++ too
    os.dup2(2, 1)
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    for line in lines:
        try:
            answer = True, module.convert(module.parse_arguments(json.loads(line)))
        except (Exception, SystemExit) as error:
            answer = False, f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
