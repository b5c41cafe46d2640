"""A lesson as one value, and the page that is built of it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from ddpm.page.api import endpoint, run_only, streamed
from ddpm.page.controls import LATEX, Control, control, follow_schedule, moved, to_settings, typed
from ddpm.page.events import (
    DRAW_SEED,
    FOLLOWING,
    QUIET,
    RAW,
    STREAMING,
    Messages,
    given,
    handler_from_controls,
    write_address,
)
from ddpm.page.experiments import Experiment, Experiments
from ddpm.page.stream import Answer, messages_of
from ddpm.serving.engine import Engine
from ddpm.settings import SCHEDULE, Scheduled, Settings

_FOLLOW = """() => {
  if (document.querySelector("#program")?.checkVisibility()) document.querySelector("#follow").click();
}"""


@dataclass(frozen=True)
class House:
    """What the pages stand on: the engine, the networks, what visitors have, among it each one's network, and all lessons."""

    engine: Engine
    models: Any
    visits: Any
    mine: Callable[[gr.Request], Any | None]
    lessons: Sequence[Lesson]

    @property
    def scheduled(self) -> dict[str, str]:
        """The paths of the pages that take a schedule, by name."""
        return {lesson.name: lesson.path for lesson in self.lessons if isinstance(lesson.first, Scheduled)}


Item = str | Callable[["Page"], Any]
"""A part of a page: the control of a setting, by name, or whatever the function renders."""


_OWN: Any = None
"""What stands for the reading of a lesson's own settings until these are known."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A page: what differs from one to the next.

    ``name`` stands in the navigation, ``path`` is below the app's address, ``first`` is what the page shows if its link
    says no more. ``text`` are its parts in Markdown, as ``read_text`` gives them. ``answer`` makes a job of settings, the
    notes on them, and the request; its name and docstring are those of the endpoint that streams it, as those of ``tool``
    are of the one that answers once it is over, with the components that ``outputs`` makes. ``read`` makes the settings of a
    link, as they do themselves unless it is given.

    ``ask`` stands above the stage, ``above`` above the screen, ``beside`` beside it, or, on a ``wide`` page, below.
    ``buttons`` start and end a run. ``watched`` settings ask ``watcher`` for an answer as soon as they are changed; in the
    place of ``answer``, ``chosen`` answers an experiment and ``opened`` a link. ``controls`` are those that the lesson makes
    itself, ``order`` is that of an endpoint's arguments if it is not the page's, ``updates`` are what controls become for
    some settings if that is not the setting itself. ``connect`` adds what only this lesson has.
    """

    name: str
    path: str
    first: Settings
    text: Mapping[str, str]
    screen: Callable[[House], gr.HTML]
    program: Callable[[Any], str]
    answer: Callable[[House, Any, list[str], gr.Request], Answer | Sequence[Answer]]
    tool: Callable[[House, Any, list[str], gr.Request], Any]
    outputs: Callable[[], list[Control]] = run_only
    read: Callable[[Mapping[str, Any]], tuple[Any, list[str]]] = _OWN
    ask: Sequence[Item] = ()
    above: Sequence[Item] = ()
    beside: Sequence[Item] = ()
    wide: bool = False
    buttons: Callable[[Page], Any] | None = None
    controls: Mapping[str, Callable[[], Control]] = field(default_factory=dict)
    order: Sequence[str] = ()
    updates: Callable[[Any], Mapping[str, Any]] = lambda settings: {}
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    watched: Sequence[str] = ()
    watcher: Callable[[House, Any, list[str], gr.Request], Answer] | None = None
    chosen: Callable[[House, Any, list[str], gr.Request], Answer] | None = None
    opened: Callable[[House, Any, list[str], gr.Request], Answer] | None = None
    connect: Callable[[Page], None] = lambda page: None

    def __post_init__(self) -> None:
        if self.read is _OWN:
            object.__setattr__(self, "read", type(self.first).from_query)


def read_text(folder: Path) -> dict[str, str]:
    """The parts of the ``text.md`` in ``folder``, by the names that stand in comments above them."""
    parts = re.split(r"^<!-- (.*) -->\n", (folder / "text.md").read_text("utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2])}


class Page:
    """The page of one lesson, on the ``gr.Blocks`` being built."""

    controls: Mapping[str, Control]
    screen: gr.HTML

    def __init__(self, lesson: Lesson, house: House):
        self.lesson, self.house = lesson, house
        self.own: Any = SimpleNamespace()
        """What this lesson has rendered besides: buttons, mostly."""
        self._made: dict[str, Control] = {}
        self._experiments = Experiments(lesson.experiments)

    def build(self) -> None:
        """Lays the page out and connects its parts."""
        self._lay_out()
        names = self.lesson.order or tuple(self._made)
        self.controls = {name: self._made[name] for name in names}
        self.inputs = list(self.controls.values())
        self.show = self.handler(self.lesson.answer)
        self._open_with_link()
        self._connect_settings()
        chosen = self.handler(self.lesson.chosen) if self.lesson.chosen else self.show
        self._experiments.connect(self.inputs, self.values, chosen, self.screen)
        self._show_code()
        self._offer()
        self.lesson.connect(self)

    def handler(self, answer: Callable[..., Answer | Sequence[Answer]]) -> Callable[..., AsyncGenerator[str, None]]:
        """The handler of the controls that streams what ``answer`` makes of their values."""
        return handler_from_controls(self.controls, self._messages(answer))

    def stream(self, event: Callable, handler: Callable[..., AsyncGenerator[str, None]], **options: Any) -> None:
        """Has ``event`` start the ``handler`` of the controls, whose messages the screen shows."""
        event(handler, self.inputs, self.screen, **{**STREAMING, "api_visibility": "private", **options})

    def stream_on(
        self, events: Sequence[Callable], handler: Callable[..., AsyncGenerator[str, None]], **options: Any
    ) -> None:
        """Has each of ``events`` start the ``handler`` of the controls."""
        gr.on(events, handler, self.inputs, self.screen, **{**STREAMING, "api_visibility": "private", **options})

    def draw_seed(self, button: gr.Button, name: str, handler: Callable[..., AsyncGenerator[str, None]]) -> None:
        """Has ``button`` draw another value of the seed ``name`` and start the ``handler``."""
        seed = self.controls[name]
        drawn = button.click(None, None, seed, js=DRAW_SEED, api_visibility="private")
        self.stream(drawn.then, handler)

    def stop(self, request: gr.Request) -> None:
        """Ends the run of the page that sent ``request``."""
        if request.session_hash is not None:
            self.house.engine.stop(request.session_hash)

    def values(self, settings: Settings) -> list[object]:
        """What the controls are to be for ``settings``."""
        updates = self.lesson.updates(settings)
        return [updates.get(name, getattr(settings, name)) for name in self.controls]

    def render(self, items: Iterable[Item]) -> None:
        """Renders parts of the page where it is at the moment."""
        for item in items:
            if not isinstance(item, str):
                item(self)
                continue
            for name in SCHEDULE if item == "schedule" else [item]:
                make = self.lesson.controls.get(name)
                self._made[name] = make() if make else control(self.lesson.first, name)

    # --- the layout ---------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        lesson = self.lesson
        gr.Markdown(lesson.text["introduction"])
        as_list = lesson.buttons and not lesson.wide and lesson.experiments
        if lesson.experiments and not as_list:
            self._experiments.offer_buttons()
            self._experiments.look_for()
        if lesson.buttons:
            with gr.Row(elem_id="ask"):
                self.render(lesson.ask)
                if as_list:
                    self._experiments.offer_list()
                lesson.buttons(self)
        else:
            to_settings()
        if as_list:
            self._experiments.look_for()
        self._stage()
        if "formulas" in lesson.text:
            gr.Markdown(lesson.text["formulas"], latex_delimiters=LATEX)

    def _stage(self) -> None:
        lesson = self.lesson
        if lesson.wide:
            self.screen = lesson.screen(self.house)
            with gr.Row(elem_id="settings"):
                self.render(lesson.beside)
            return
        with gr.Row(elem_id="stage"):
            with gr.Column(scale=3, min_width=320):
                self.render(lesson.above)
                self.screen = lesson.screen(self.house)
            with gr.Column(scale=1, min_width=280, elem_id="settings"):
                self.render(lesson.beside)

    # --- what follows what --------------------------------------------------------------------------------------------

    def _messages(self, answer: Callable[..., Answer | Sequence[Answer]]) -> Messages:
        return messages_of(self.house, self.lesson.read, answer)

    def _open_with_link(self) -> None:
        """Lets a link set the controls, and begin."""
        lesson = self.lesson
        messages = self._messages(lesson.opened or lesson.answer)

        def settings_of_link(request: gr.Request) -> list[object]:
            return self.values(lesson.read(dict(request.query_params))[0])

        async def open_link(request: gr.Request) -> AsyncGenerator[str, None]:
            async with aclosing(messages(dict(request.query_params), request)) as each:
                async for message in each:
                    yield message

        page = gr.context.Context.root_block
        if page is None:
            raise RuntimeError("A page is built within gr.Blocks.")
        page.load(settings_of_link, None, self.inputs, **FOLLOWING, **RAW)
        page.load(open_link, None, outputs=self.screen, **STREAMING, api_visibility="private")

    def _connect_settings(self) -> None:
        lesson, controls = self.lesson, self.controls
        if lesson.watched:  # only what the visitor does: what a link sets comes with a run of its own
            events = [event for name in lesson.watched for event in moved(controls, name)]
            self.stream_on(events, self.handler(lesson.watcher) if lesson.watcher else self.show)
        if "schedule" in controls:
            follow_schedule(controls)
        if lesson.buttons and not lesson.wide:
            changes = [control.change for control in self.inputs]
            gr.on(changes, None, self.inputs, None, js=write_address(list(controls)), **FOLLOWING)

    def _show_code(self) -> None:
        """Adds the program of the controls' settings, which follows them while it is seen."""
        lesson, names = self.lesson, list(self.controls)

        def code(*values: Any) -> str:
            return lesson.program(lesson.read(given(names, values))[0])

        with gr.Accordion("Show the code", open=False, elem_id="code") as shown:
            gr.Markdown(
                "The same computation as a Python program, with the settings chosen above. Run it in the folder of this "
                "project: it gives the same numbers, up to rounding."
            )
            text = gr.Code(
                lesson.program(lesson.first),
                "python",
                interactive=False,
                wrap_lines=True,
                buttons=["copy"],
                label="Program",
                elem_id="program",
            )
            follow = gr.Button(visible="hidden", elem_id="follow")
        gr.on([control.change for control in self.inputs], js=_FOLLOW, **FOLLOWING)
        # Values as they come: a control's limits may have changed before its value has, and ``read`` keeps to its own.
        events = [shown.expand, follow.click]
        gr.on(events, code, self.inputs, text, trigger_mode="always_last", preprocess=False, **QUIET)

    def _offer(self) -> None:
        """Adds the endpoints for programs."""
        lesson, controls = self.lesson, typed(self.lesson.first, self.controls)
        allowed = lesson.first.allowed(lesson.first.values())
        streamed(self._messages(lesson.answer), lesson.answer.__name__, controls, self.screen, allowed)

        async def tool(query: dict[str, Any], request: gr.Request) -> Any:
            return await lesson.tool(self.house, *lesson.read(query), request)

        tool.__doc__ = lesson.tool.__doc__
        endpoint(tool, lesson.tool.__name__, controls, lesson.outputs(), allowed)


def new_noise(page: Page) -> None:
    """The button of a page without a run in time that draws another seed."""
    page.own.dice = gr.Button("New noise", size="sm", elem_id="dice")


def run_buttons(page: Page) -> None:
    """The buttons of a lesson that shows a run in time: they start it, end it, and draw another seed."""
    with gr.Column(scale=0, min_width=210):
        with gr.Row():
            page.own.generate = gr.Button("Generate", variant="primary", min_width=110, elem_id="generate")
            page.own.halt = gr.Button("Stop", min_width=70, elem_id="stop")
        page.own.dice = gr.Button("Generate from new noise", size="sm", elem_id="dice")
        to_settings()


def connect_run_buttons(page: Page) -> None:
    """Connects what ``run_buttons`` has rendered."""
    page.stream(page.own.generate.click, page.show)
    page.draw_seed(page.own.dice, "seed", page.show)
    page.own.halt.click(page.stop, None, None, **QUIET)
