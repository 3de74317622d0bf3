"""The conversation column: what was said, the question box, send, stop, retry, clear, examples, settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from molora.errors import MoloraError
from viz.again import intervene
from viz.answer_text import linked_turns
from viz.assets import js
from viz.chat import UPDATE_SECONDS, busy, check_prompt, reply, usual_penalty
from viz.coming import Coming
from viz.figures.conversation import conversation, examples
from viz.language import spoken, t
from viz.panels.events import EVERY, MODEL, QUICK
from viz.panels.notice import Notice
from viz.panels.routing import RoutingPanel
from viz.panels.settings import Settings
from viz.panels.wording import worded
from viz.session import Session


class ConversationPanel:
    def __init__(self, coming: Coming, questions: list[str], most_new_tokens: int) -> None:
        self.coming = coming
        self.questions = questions
        self.log = worded(
            lambda: {"label": t("Conversation")},
            gr.HTML,
            self._welcome(),
            html_template='<div class="scroller" role="log" aria-label="${label}">${value}</div>',
            js_on_load=js("conversation"),
            elem_id="log",
            apply_default_css=False,
        )
        with gr.Row(elem_classes="ask", equal_height=True):
            self.prompt = worded(
                lambda: {"placeholder": t("Ask a medical question"), "label": t("Your question")},
                gr.Textbox,
                show_label=False,
                container=False,
                lines=1,
                max_lines=5,
                scale=1,
                min_width=120,
                elem_id="prompt",
                autofocus=True,
            )
            self.send = worded(
                lambda: {"value": t("Send")}, gr.Button, variant="primary", min_width=76, scale=0, elem_id="send"
            )
            self.stop = worded(
                lambda: {"value": t("Stop")},
                gr.Button,
                variant="stop",
                min_width=76,
                scale=0,
                elem_id="stop",
                visible=False,
            )
        with gr.Row(elem_classes="after-ask"):
            self.retry = worded(
                lambda: {"value": t("Retry")}, gr.Button, size="sm", min_width=0, scale=0, elem_id="retry"
            )
            self.clear = worded(
                lambda: {"value": t("Clear")}, gr.Button, size="sm", min_width=0, scale=0, elem_id="clear"
            )
            worded(
                lambda: {"said": t("Enter sends, Shift+Enter breaks the line, Esc stops")},
                gr.HTML,
                html_template='<span class="hint">${said}</span>',
                apply_default_css=False,
                elem_classes="hints",
            )
        self.settings = Settings(most_new_tokens, usual_penalty(coming.info))

        self.outputs = [self.log, self.send, self.stop]

    def wire(self, state: gr.State, routing: RoutingPanel, notice: Notice) -> None:
        """Sending is two events: the question shows at once, then the answer waits for the model's turn."""
        talk = self.outputs
        page = [*talk, *routing.outputs]

        def answer(session: Session, *settings: float) -> Iterator[list[Any]]:
            while session.waiting and not self.coming.here(UPDATE_SECONDS):
                pass
            if not session.waiting:  # refused, or stopped before its turn; without a yield Gradio empties the page
                yield [gr.skip()] * len(page)
                return
            for _ in reply(self.coming.engine, session, self.settings.sampling(*settings)):
                yield [*self.draw(session), *routing.draw(session)]

        def settled(session: Session) -> list[Any]:
            session.waiting = session.waiting and not session.stopping
            return self.draw(session)

        starts = [
            (
                gr.on(
                    [self.prompt.submit, self.send.click],
                    self._sent,
                    [state, self.prompt],
                    [notice.html, self.prompt, *talk],
                    **QUICK,
                )
            ),
            self.log.example(self._example, state, [notice.html, *talk], **QUICK),
            self.retry.click(self._again, state, [notice.html, *talk], **QUICK),
        ]
        for start in starts:
            run = start.success(answer, [state, *self.settings.inputs], page, api_visibility="private", **MODEL)
            run.then(settled, state, talk, **QUICK)
        self.stop.click(self._stopped, state, talk, **QUICK)
        routing.edit.cancel.click(self._stopped, state, talk, **QUICK)

        def answer_again(session: Session, *settings: float) -> Iterator[list[Any]]:
            if not session.waiting or session.edits.task is None:
                yield [gr.skip()] * len(page)
            for _ in intervene(self.coming.engine, session, self.settings.sampling(*settings)):
                yield [*self.draw(session), *routing.draw(session)]

        for button, prepare in routing.edit.tasks:
            inputs = [state, routing.edit.layers, routing.edit.projection]
            asked = button.click(self._asked(prepare), inputs, [notice.html, *talk], **QUICK)
            run = asked.success(answer_again, [state, *self.settings.inputs], page, api_visibility="private", **MODEL)
            run.then(settled, state, talk, **QUICK)

        def cleared(session: Session) -> list[Any]:
            session.clear()
            return [*self.draw(session), *routing.draw(session)]

        self.clear.click(cleared, state, page, **QUICK)

        def opened(session: Session, event: gr.EventData) -> list[Any]:
            try:
                routing.opening.opened(session, event)
            except MoloraError as error:
                return [Notice.of(error), *[gr.skip()] * len(page)]
            return ["", *self.draw(session), *routing.draw(session)]

        self.log.word(routing.said, state, routing.outputs, **EVERY)
        routing.opening.button.opened(opened, state, [notice.html, *page], **QUICK)

    def _sent(self, session: Session, prompt: str | None) -> list[Any]:
        """What cannot be sent stays in the box, and a message says why."""
        try:
            if session.busy:
                raise MoloraError(busy())
            session.ask(check_prompt(prompt or ""))
        except MoloraError as error:
            return [Notice.of(error), *[gr.skip()] * 4]
        return ["", "", *self.draw(session)]

    def _example(self, session: Session, event: gr.EventData) -> list[Any]:
        if session.busy:
            return [busy(), *self.draw(session)]
        if isinstance(event.index, int) and 0 <= event.index < len(self.questions):
            session.ask(self.questions[event.index])
        return ["", *self.draw(session)]

    def _again(self, session: Session) -> list[Any]:
        """Asks the last question once more, with the settings as they are now."""
        said = ""
        if session.busy:
            said = busy()
        elif question := session.retract():
            session.ask(question)
        else:
            said = t("There is no question to ask again yet.")
        return [said, *self.draw(session)]

    def _asked(self, prepare: Callable[[Session, str | None, str | None], None]) -> Callable[..., list[Any]]:
        """An event that asks for what `prepare` names, or says why it cannot be done."""

        def asked(session: Session, layers: str | None, projection: str | None) -> list[Any]:
            try:
                prepare(session, layers, projection)
            except MoloraError as error:
                return [Notice.of(error), *[gr.skip()] * 3]
            return ["", *self.draw(session)]

        return asked

    def _stopped(self, session: Session) -> list[Any]:
        session.stopping = session.running
        session.waiting = False
        return self.draw(session)

    def draw(self, session: Session) -> list[Any]:
        """The log, and Send or Stop, whichever makes sense."""
        turns = [(turn.role, turn.content, turn.mark) for turn in session.turns]
        shown = self._log(session, turns) if turns else self._welcome()
        return [shown, gr.update(visible=not session.busy), gr.update(visible=session.busy)]

    @staticmethod
    def _log(session: Session, turns: Sequence[tuple[str, ...]]) -> str:
        writing = session.busy and not session.edits.sweeping
        return conversation(turns, writing=writing, linked=linked_turns(session))

    def _welcome(self) -> str:
        said = t(
            "Ask a medical question. Beside the answer you see, for every token and layer, which experts the routers "
            "picked."
        )
        if spoken() == "zh" and not self.coming.info.reads_chinese:
            said += t(" This model reads English only.")
        return f'<div class="welcome"><p>{said}</p>{examples(self.questions)}</div>'
