"""Documents as seeds: Markdown, HTML, plain text and PDF files, in chunks that a model can be asked about."""

import itertools
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo

from pipeline import console
from pipeline.component import file_digest, identify
from pipeline.errors import UsageError
from pipeline.models import find
from pipeline.records import digest
from stages.sources.base import Source
from stages.sources.chunks import chunked, counter
from stages.sources.reading import READERS, UnreadableFile, read

WILD = "*?["


class Found(NamedTuple):
    """A file and its name below the folder that the plan names."""

    file: Path
    name: str


def listed(path: Path) -> list[Found]:
    """The documents of a file, a folder or a glob, by name; files of other formats are passed over."""
    if path.is_file():
        return [Found(path, _name(path, path.parent))]
    folder, pattern = _split(path)
    files = (file for file in folder.glob(pattern) if file.suffix.lower() in READERS and file.is_file())
    return sorted((Found(file, _name(file, folder)) for file in files), key=lambda found: found.name)


def _name(file: Path, folder: Path) -> str:
    """A path that is the same on every system: some take Korean names apart into letters."""
    return unicodedata.normalize("NFC", file.relative_to(folder).as_posix())


def _split(path: Path) -> tuple[Path, str]:
    """The folder to search and what to search for."""
    if path.is_dir():
        return path, "**/*"
    wild = next((n for n, part in enumerate(path.parts) if any(sign in part for sign in WILD)), len(path.parts))
    return Path(*path.parts[:wild]), str(Path(*path.parts[wild:]))


def _in_plan_folder(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("folder", Path())
    path = base.resolve() / path.expanduser()
    folder, pattern = (path, "") if path.exists() else _split(path)
    if ".." in Path(pattern).parts:
        raise ValueError(f"{path}: no `..` after a wildcard")
    if pattern == ".":
        raise ValueError(f"no such file or folder: {path}")
    path = folder.resolve() / pattern
    if path.is_file() and path.suffix.lower() not in READERS:
        raise ValueError(f"cannot read {path.name}: a document's name ends with {', '.join(READERS)}")
    if not listed(path):
        raise ValueError(f"no documents in {path} ({', '.join(READERS)})")
    return path


class Documents(Source):
    """Chunks of Markdown, HTML, plain text and PDF files, by their headings and paragraphs."""

    kind: Literal["documents"] = "documents"
    path: Annotated[Path, AfterValidator(_in_plan_folder), Field(description="a file, a folder, or a glob")]
    chunk_tokens: Annotated[int, Field(ge=32, description="tokens of a chunk at most; headings may come on top")] = 400
    tokenizer: Annotated[
        str, Field(description="the model whose tokens are counted; estimated from the characters when left out")
    ] = ""
    skip_unreadable: Annotated[bool, Field(description="pass over files that cannot be read, with a warning")] = False
    count: Annotated[int | None, Field(ge=1, description="the first so many chunks; all when left out")] = None

    def identity(self) -> dict[str, Any]:
        """Files count by name and content, the tokenizer by its revision too."""
        others = {name: identify(getattr(self, name)) for name in type(self).model_fields if name != "path"}
        content = digest([[found.name, file_digest(found.file)] for found in listed(self.path)], 64)
        revision = {"tokenizer_revision": find(self.tokenizer).revision} if self.tokenizer else {}
        return others | {"path": {"sha256": content}} | revision

    def fields(self) -> set[str]:
        """A chunk's text and where it comes from."""
        return {"text", "title", "headings", "path", "chunk"}

    def rows(self, seed: int) -> Iterator[tuple[dict[str, Any], str]]:
        """Chunks, file by file in the order of their names."""
        return itertools.islice(self._chunks(), self.count)

    def _chunks(self) -> Iterator[tuple[dict[str, Any], str]]:
        size = counter(self.tokenizer)
        for file, name in listed(self.path):
            try:
                document = read(file)
            except UnreadableFile as problem:
                if not self.skip_unreadable:
                    hint = "repair or remove it, or pass over such files with skip_unreadable: true"
                    raise UsageError(f"{file} cannot be read: {problem}", hint=hint) from problem
                _skipped(f"{file} is passed over: {problem}")
                continue
            title = document.title or Path(name).stem
            for number, chunk in enumerate(chunked(document.blocks, self.chunk_tokens, size)):
                place = {"title": title, "headings": list(chunk.headings), "path": name, "chunk": number}
                yield {"text": chunk.text} | place, f"{file}#{number}"


@cache
def _skipped(message: str) -> None:
    """Said once, however often the files are read."""
    console.warn(message)
