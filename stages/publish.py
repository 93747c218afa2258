"""push: put a data set and a student on the Hugging Face Hub, or show exactly what would go.

A repository's content is put together in a temporary folder of links, so that what is shown is what is sent. The token
comes from `HF_TOKEN` alone and is written nowhere.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from pipeline import __version__, console
from pipeline.errors import PipelineError, UsageError
from pipeline.models import FILES
from pipeline.run import Run
from pipeline.store import ShardInfo, Version
from stages import card_data, card_model
from stages.card_croissant import croissant
from stages.card_facts import Facts, gather
from stages.card_files import Want, items
from stages.formats.export import rows_of
from stages.licences import Chain, chain
from stages.plan import Plan

CARD, CROISSANT, TOKEN = "README.md", "croissant.json", "HF_TOKEN"
STALE = {"dataset": ["data/*"], "model": ["*.safetensors", "*.safetensors.index.json"]}
"""files of an earlier push that go where this one has none of that name"""


class Options(NamedTuple):
    """What the user wants to publish: `dataset` and `model` are repositories, "" for none."""

    dataset: str = ""
    model: str = ""
    input: str = ""
    want: Want = Want()
    licence_checked: bool = False


class Sent(NamedTuple):
    """One file of a parcel, in bytes."""

    path: str
    bytes: int


class Parcel(NamedTuple):
    """All that goes into one repository, in a folder of its own."""

    kind: Literal["dataset", "model"]
    repo: str
    folder: Path
    card: str
    chain: Chain
    notes: list[str]
    message: str

    def files(self) -> list[Sent]:
        """What lies in the folder, by name."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [Sent(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in found]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": self.kind,
            "repo": self.repo,
            "files": [sent._asdict() for sent in self.files()],
            "licence": self.chain.licence.known_as,
            "unknown": self.chain.unknown,
            "conflicts": self.chain.conflicts,
            "notes": self.notes,
            "card": self.card,
        }


@contextlib.contextmanager
def assembled(plan: Plan, run: Run, options: Options) -> Iterator[list[Parcel]]:
    """The parcels, whose folders are there until the end of the block. Raises UsageError for what cannot be sent."""
    for repo in filter(None, (options.dataset, options.model)):
        check_repo(repo)
    if not options.dataset and not options.model:
        raise UsageError("say what goes where: --dataset OWNER/NAME, --model OWNER/NAME, or both")
    facts = gather(plan, run, rows_of(run, name=options.input)) if options.dataset else None
    with tempfile.TemporaryDirectory(prefix="pipeline-push-") as folder:
        parcels = []
        if facts is not None:
            parcels.append(_dataset(facts, options, Path(folder) / "dataset"))
        if options.model:
            parcels.append(_model(card_model.taught(plan, run, facts), options, Path(folder) / "model"))
        yield parcels


def check_repo(repo: str) -> None:
    """Raise UsageError for what is no `owner/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"{repo}: {str(error).splitlines()[0]}") from error
    if "/" not in repo:
        raise UsageError(f"{repo}: write whose it is, too: OWNER/{repo}")


def _dataset(facts: Facts, options: Options, folder: Path) -> Parcel:
    found, licence = items(facts, options.want), chain(facts.sources())
    for item in found:
        _link(Version(item.file.parent), item.info, folder / item.path)
    card = card_data.card(facts, options.want, options.dataset)
    (folder / CARD).write_text(card, encoding="utf-8")
    described = croissant(facts, found, licence, options.dataset)
    (folder / CROISSANT).write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    notes = [f"unknown licence: {text}" for text in licence.unknown]
    if facts.counted.paths:
        notes.append(f"{facts.counted.paths:,} rows name their model by a path of this machine (made_by.model)")
    message = f"{facts.plan.name}: {facts.version.manifest.stage} {facts.version.name}"
    return Parcel("dataset", options.dataset, folder, card, licence, notes, message)


def _model(found: card_model.Taught, options: Options, folder: Path) -> Parcel:
    version = found.version
    for info in version.manifest.files:
        top, _, name = info.file.partition("/")
        if top == "model" and name != CARD and any(Path(name).match(pattern) for pattern in FILES):
            _link(version, info, folder / name)
    if not any(folder.glob("*.safetensors")):
        raise PipelineError(f"train {version.name} holds no weights in model/", hint="run train again")
    card = card_model.card(found, options.model, options.dataset)
    (folder / CARD).write_text(card, encoding="utf-8")
    licence = found.licences(options.model)
    notes = [f"unknown licence: {text}" for text in licence.unknown]
    return Parcel("model", options.model, folder, card, licence, notes, f"{found.plan.name}: train {version.name}")


def _link(version: Version, info: ShardInfo, target: Path) -> None:
    """A link to a file of a version, once it is what the manifest says."""
    version.verify(info)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to((version.path / info.file).resolve())


def refuse(parcels: list[Parcel], options: Options) -> None:
    """Raise PipelineError where licences do not allow what would be published, unless the user has checked."""
    conflicts = list(dict.fromkeys(text for parcel in parcels for text in parcel.chain.conflicts))
    if conflicts and not options.licence_checked:
        raise PipelineError(
            "the licences do not go together with publishing this:\n" + "\n".join(f"  {text}" for text in conflicts),
            hint="leave out what is under them; or read the terms and say --licence-checked",
        )


def token() -> str:
    """`HF_TOKEN`. Raises UsageError where it is not set: a token that lies elsewhere is not used."""
    found = os.environ.get(TOKEN, "").strip()
    if not found:
        raise UsageError(f"{TOKEN} is not set", hint=f"export {TOKEN}=...; --dry-run needs none")
    return found


def send(parcels: list[Parcel], *, private: bool) -> list[str]:
    """Make the repositories where they are not there, and commit; the addresses. Raises PipelineError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    secret = token()
    api = HfApi(os.environ.get("HF_ENDPOINT") or None, secret, "pipeline", __version__)
    places = []
    for parcel in parcels:
        console.say(f"push: {parcel.kind} {parcel.repo}")
        try:
            places.append(_send(api, parcel, private=private))
        except PipelineError:
            raise
        except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
            raise PipelineError(f"{parcel.repo}: {_first(error, secret)}", hint=HINT) from None
        except Exception as error:  # those of the HTTP client have no base of their own
            if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore"):
                raise
            raise PipelineError(f"{parcel.repo}: {_first(error, secret)}", hint=HINT) from None
    return places


HINT = f"check the name, the network, and that {TOKEN} may write there; the same command goes on"


def _send(api: Any, parcel: Parcel, *, private: bool) -> str:
    made = api.create_repo(parcel.repo, repo_type=parcel.kind, private=private or None, exist_ok=True)
    if private and not api.repo_info(parcel.repo, repo_type=parcel.kind).private:
        raise PipelineError(
            f"{parcel.repo} is there already and everybody can read it; nothing was sent",
            hint="make it private on the Hub, name another one, or leave out --private",
        )
    api.upload_folder(
        repo_id=parcel.repo, repo_type=parcel.kind, folder_path=parcel.folder, commit_message=parcel.message,
        delete_patterns=STALE[parcel.kind],
    )  # fmt: skip
    return str(made)


def _first(error: Exception, secret: str) -> str:
    """What went wrong in a line, without the token."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace(secret, "***")
