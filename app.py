"""MoLoRA Lens: ask a medical question, and watch which low-rank experts the routers pick for every token."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    gc.disable()  # imports make objects by the million, all to stay: looking for garbage takes a sixth of the start
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while Gradio is imported

import gradio as gr

from molora.ahead import info_ahead
from molora.atlas.data import ATLASES
from molora.errors import MoloraError
from viz import assets
from viz.api import ask_endpoint
from viz.coming import Coming
from viz.panels.atlas import atlas_of
from viz.panels.conversation import ConversationPanel
from viz.panels.events import MODEL, QUEUE_SIZE
from viz.panels.frame import Head, foot
from viz.panels.notice import Notice
from viz.panels.routing import RoutingPanel
from viz.panels.wording import wire_language
from viz.serve import launch
from viz.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molora.engine import Engine

SESSION_SECONDS = 3600


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Starts the MoLoRA Lens page: ask a medical question and watch, live, which experts of the "
        "mixture each router picks for every token.",
        epilog="Examples:\n"
        "  python app.py                                     the best model this machine can run\n"
        "  python app.py --model demo                        the small English demo model, on any machine\n"
        "  python app.py --model BlueZeros/MING-MOE-7B       MING-MOE in 4 bits, on a CUDA GPU\n"
        "  python app.py --model ./my-adapter --base ./my-base --quantize none\n\n"
        "The page is no medical advice.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="auto",
        metavar="NAME",
        help="hub id, folder in the released MING-MOE layout, 'demo', or 'auto': MING-MOE-7B where a "
        "GPU has room for it and its weights are in reach, otherwise the demo (default: auto)",
    )
    model.add_argument(
        "--base", metavar="NAME", help="hub id or folder of the base model (default: the one the checkpoint names)"
    )
    model.add_argument(
        "--quantize",
        default="auto",
        choices=("auto", "none", "8bit", "4bit"),
        help="auto: 4 bits on a CUDA GPU; on a CPU none, but a base that has 4 bits is read as such; none: full "
        "precision throughout (default: auto)",
    )
    model.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:1, ... auto spreads over all GPUs (default: auto)",
    )
    model.add_argument(
        "--max-new-tokens",
        type=_positive,
        default=512,
        metavar="N",
        help="the longest answer that visitors may ask for (default: 512)",
    )
    model.add_argument(
        "--check",
        action="store_true",
        help="print what this machine has and what each MING-MOE needs, and end; nothing is downloaded",
    )
    model.add_argument(
        "--context", type=_positive, default=4096, metavar="N", help="tokens that --check reckons with (default: 4096)"
    )
    page = parser.add_argument_group("page")
    page.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        help="0.0.0.0 serves the whole network (default: 127.0.0.1, this machine only)",
    )
    page.add_argument(
        "--port", type=int, default=None, help="default: GRADIO_SERVER_PORT if set, else the first free one from 7860"
    )
    page.add_argument(
        "--share",
        action="store_true",
        help="also make a public gradio.live address; needs the internet, and anyone with it can ask",
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def build(
    engine: Engine | Coming, *, most_new_tokens: int = 512, reason: str | None = None, atlases: Path = ATLASES
) -> gr.Blocks:
    """The page, not yet launched; see `launch`.

    engine: it may still be loading; reason: why `--model auto` chose this model; atlases: the folder where its atlas is
    looked for.
    """
    coming = engine if isinstance(engine, Coming) else Coming.of(engine)
    info = coming.info
    with gr.Blocks(title="MoLoRA Lens", fill_width=True, analytics_enabled=False) as page:
        state = gr.State(Session(), time_to_live=SESSION_SECONDS)
        with gr.Column(elem_id="page"):
            top = Head(coming, reason)
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=5, min_width=320, elem_id="conversation"):
                    talk = ConversationPanel(coming, assets.example_questions(info.reads_chinese), most_new_tokens)
                with gr.Column(scale=7, min_width=340, elem_id="routing"):
                    atlas = atlas_of(info, atlases)
                    routing = RoutingPanel(info.layers, info.num_experts, info.projections, atlas, info.top_k)
            foot(info)
            notice = Notice()
        top.wire(page, state)
        talk.wire(state, routing, notice)
        routing.wire(state, notice)
        routing.compare.wire(coming, state, notice)
        gr.api(
            ask_endpoint(coming, most_new_tokens),
            api_name="ask",
            concurrency_id=MODEL["concurrency_id"],
            concurrency_limit=MODEL["concurrency_limit"],
        )
        wire_language(
            page,
            state,
            top.html,
            lambda session: [*talk.draw(session), *routing.reworded(session)],
            [*talk.outputs, *routing.outputs],
        )
    return page.queue(max_size=QUEUE_SIZE)


def loaded(options: argparse.Namespace) -> Engine:
    """Raises MoloraError."""
    from molora.loading import load  # torch, which takes longer to import than the page to build

    return load(options.model, base=options.base, quantize=options.quantize, device=options.device)


def prepare(coming: Coming, options: argparse.Namespace) -> None:
    """Loads the model, unless it is here, and does what its first answer would wait for. Raises MoloraError."""
    if not coming.here():
        coming.arrive(loaded(options))
        print(f"{options.model} is loaded.", flush=True)
    gc.freeze()  # what imports and loading made stays: to look through it for garbage takes half a second
    gc.enable()
    coming.engine.warm_up()


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    reason = None
    try:
        if options.check:
            from molora.machine import check

            print(check(options.context))
            return 0
        if options.model == "auto":
            from molora.loading import choose_model  # torch: after --help has had its chance

            options.model, reason = choose_model()
            print(f"Model: {options.model} ({reason}).", flush=True)
        info = info_ahead(options.model, options.base)
        coming = Coming(info) if info else Coming.of(loaded(options))
        page = build(coming, most_new_tokens=options.max_new_tokens, reason=reason)
        launch(
            page,
            host=options.host,
            port=options.port,
            share=options.share,
            meanwhile=lambda: prepare(coming, options),
        )
    except (MoloraError, OSError) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while the model was being loaded
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
