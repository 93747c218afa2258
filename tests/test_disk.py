"""A disk that is full, a folder that cannot be written, files that were torn: named, survived, never read silently."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PLAN = HERE / "golden/stories/plan.yaml"


def run(runs: Path, *words: str, prepare: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """A pipeline command over the golden plan."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *(words or ("run",)), str(PLAN)],
        env=os.environ | {"PIPELINE_RUNS": str(runs)},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=prepare,
    )


def shards(runs: Path) -> dict[str, bytes]:
    """Every shard of the golden run."""
    return {f"{f.parent.parent.name}/{f.name}": f.read_bytes() for f in runs.glob("golden/*/*/*.jsonl")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of a run that nothing disturbed."""
    runs = tmp_path_factory.mktemp("whole")
    assert run(runs).returncode == 0
    return shards(runs)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, too small for a run; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def remount(disk: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_a_full_disk_is_a_message_and_the_rerun_finishes(small_disk: Path, whole: dict[str, bytes]) -> None:
    """Exit 1, no traceback, nothing half-written taken for whole; with room again the same command ends well."""
    for size in ("64k", "100k", "140k", "180k"):
        remount(small_disk, f"size={size}")
        done = run(small_disk)
        if done.returncode == 0:
            break
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "disk" in done.stderr or "No space left" in done.stderr or "full" in done.stderr
    else:
        remount(small_disk, "size=4m")
        assert run(small_disk).returncode == 0
    assert shards(small_disk) == whole
    assert size != "64k", "the disk was never full"


@pytest.mark.parametrize("limit", [2_000, 20_000, 60_000])
def test_files_that_may_not_grow(tmp_path: Path, whole: dict[str, bytes], limit: int) -> None:
    """A limit on the size of files stops a run at another place each time; without it the rerun is whole."""
    done = run(tmp_path, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert run(tmp_path).returncode == 0
    assert shards(tmp_path) == whole


def test_a_read_only_folder_is_named(small_disk: Path) -> None:
    """Nothing can be written: exit 1 and the folder's name; looking still works."""
    remount(small_disk, "size=4m")
    assert run(small_disk).returncode == 0
    remount(small_disk, "ro")
    done = run(small_disk, "generate")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(small_disk) in done.stderr.replace("\n", "")
    assert run(small_disk, "status").returncode == 0


def test_a_torn_last_line_is_found(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A shard that ends in the middle of a line is named by the stage that reads it, and made again."""
    assert run(tmp_path).returncode == 0
    (shard,) = tmp_path.glob("golden/generate/*/kept-00000.jsonl")
    shard.write_bytes(shard.read_bytes()[:-20])
    done = run(tmp_path, "filter", "--again")
    assert done.returncode == 1 and "does not match its manifest" in done.stderr
    shutil.rmtree(shard.parent)
    assert run(tmp_path, "run").returncode == 0
    assert shards(tmp_path) == whole


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A folder without a manifest is no version, whatever lies in it."""
    assert run(tmp_path, "generate").returncode == 0
    (made,) = (tmp_path / "golden/generate").iterdir()
    (made / "manifest.json").unlink()
    (made / "kept-00000.jsonl").write_bytes(b'{"id": "torn')
    (made / "kept-00007.jsonl.tmp").write_bytes(b"rest")
    assert run(tmp_path).returncode == 0
    assert shards(tmp_path) == whole
