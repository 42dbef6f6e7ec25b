"""Coverage-guided fuzzing of what stands between the parsers and the others: requests, answers, bodies.

``python benchmarks/fuzz.py requests|answers|bodies [libFuzzer's options: -max_total_time=300 …]``. Needs atheris
(``pip install atheris``). What must hold is in ``tests/hostile/properties.py``; the corpora there are where it begins.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
SMALL = 2000
USUAL = "-max_total_time=60"


def main(arguments: list[str]) -> int:
    try:
        import atheris  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        sys.exit("atheris is needed: pip install atheris")
    if not arguments or arguments[0] not in {"requests", "answers", "bodies"}:
        sys.exit(__doc__)
    with atheris.instrument_imports(include=["fd_router"]):
        from tests.hostile import corpus, properties  # noqa: PLC0415
    what, *options = arguments

    def check(data: bytes) -> None:
        place, rest = (data[0], data[1:]) if data else (0, b"")
        pieces = [rest[:place], rest[place:]]  # the first byte says where to cut
        if what == "requests":
            properties.check_requests(pieces)
        elif what == "answers":
            properties.check_answers(pieces, end=bool(place & 1))
        else:
            properties.check_body(rest)

    cases = corpus.answer_cases() if what == "answers" else corpus.request_cases()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        for number, case in enumerate(cases):
            data = case.send.partition(b"\r\n\r\n")[2] if what == "bodies" else case.send
            if len(data) < SMALL:
                (Path(directory) / str(number)).write_bytes(b"\xff" + data)
        atheris.Setup([sys.argv[0], USUAL, *options, directory], check)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
