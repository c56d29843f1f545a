"""``metarl video``: one task before and after adaptation, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from metarl.checks import Allowed, check_fields, fault_in_choice
from metarl.experiments.arguments import parse, plain_console, refuse_bad_out
from metarl.experiments.video.files import FORMATS, Format, choose_format, write_video
from metarl.experiments.video.footage import film, pace_of
from metarl.experiments.video.scene import Scene, SceneArgs, open_scene

_FPS = Allowed(0.1, 1000.0, "a number from 0.1 to 1000")  # what both formats can say
_GIF_WIDTH = 240  # pixels of a panel: a GIF is large


@dataclass(frozen=True, kw_only=True)
class VideoArgs(SceneArgs):
    """Film one task before and after adaptation, side by side.

    What is shown are episodes that ``metarl evaluate`` scores.
    """

    out: Path | None = None
    """File, .mp4 or .gif; by default a name in the run's folder videos/."""
    format: Format | None = None
    """mp4 or gif; left out, mp4 where it can be written."""
    fps: float | None = None
    """Frames per second, about. Where a step has a duration, the speed is the real one in any case;
    else it is so many steps per second."""

    def __post_init__(self) -> None:
        SceneArgs.__post_init__(self)
        choice = None if self.format is None else fault_in_choice(self, "format", FORMATS)
        check_fields(self, {} if self.fps is None else {"fps": _FPS}, choice)
        refuse_bad_out(self.out)


def video_command(arguments: Sequence[str]) -> int:
    """Run ``metarl video RUN_DIR [flags]``."""
    args = parse(VideoArgs, arguments, "video")
    notes = plain_console(stderr=True)
    wanted, note = choose_format(args.format, args.out)
    if note is not None:
        notes.print(f"note: {note}")
    scene = open_scene(args, notes)
    tell(scene, notes)
    write(scene, args.out or default_file(args, scene, wanted), args.fps, plain_console())
    return 0


def write(scene: Scene, path: Path, fps: float | None, console: Console) -> None:
    """Film a scene into a file, and say so."""
    path.parent.mkdir(exist_ok=True)
    widest = _GIF_WIDTH if path.suffix == ".gif" else None
    footage = film(scene, pace_of(scene.experiment, fps), widest)
    write_video(path, footage)
    seconds = footage.number / footage.rate
    console.print(f"wrote {path}: {footage.number} frames, {seconds:.1f} s")


def default_file(args: SceneArgs, scene: Scene, wanted: Format) -> Path:
    """Return the place of a scene's video in the folder of its run."""
    name = f"{scene.label}_adaptations{'-'.join(map(str, scene.shown))}"
    name += f"_episode{args.episode}" * (args.episode > 0) + "_best" * args.best
    return args.run_dir / "videos" / f"{name}.{wanted}"


def tell(scene: Scene, console: Console) -> None:
    """Print what is shown, beside the scores of all episodes."""
    console.print(scene.title)
    episodes = scene.experiment.episodes
    for number, caption, score in zip(scene.shown, scene.captions, scene.scores, strict=True):
        own = float(scene.rounds[number].reward[0, scene.episode].sum())
        console.print(f"{caption}: return {own:.2f}, score over E = {episodes}: {score:.2f}")
