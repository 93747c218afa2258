"""Children for the tests of `stages.child`: each does what its job says."""

import time
from typing import Any

from pipeline.errors import ModelError
from stages import child


def work(job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    """Answer, fail with a message, crash, or sleep."""
    print("talk of a library")
    advance(2)
    match job["do"]:
        case "answer":
            return {"twice": job["text"] * 2}
        case "fail":
            raise ModelError("no such model", hint="find one")
        case "sleep":
            time.sleep(60)
    raise ZeroDivisionError("a defect")


if __name__ == "__main__":
    child.serve(work)
