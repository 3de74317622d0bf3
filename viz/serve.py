"""Serves the page: its look, its address, and a public one where asked and possible. Nothing is sent elsewhere."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

import gradio as gr
from gradio import networking
from gradio.themes.utils.fonts import LocalFont

from viz import assets
from viz.incoming import PATH, receive

FALLBACKS = ("ui-sans-serif", "system-ui", "sans-serif")


def launch(
    page: gr.Blocks,
    *,
    host: str,
    port: int | None,
    share: bool = False,
    block: bool = True,
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Serves the page and returns its local address. Without the internet `share` says so, and the page stays.

    meanwhile: done once the page is there, in this thread, which then waits for the program's end.
    """
    theme = gr.themes.Base(
        primary_hue="zinc",
        secondary_hue="zinc",
        neutral_hue="zinc",
        font=[LocalFont("IBM Plex Sans", weights=(400, 700)), *FALLBACKS],
    )
    served, address, _ = page.launch(
        server_name=host,
        server_port=port,
        quiet=True,
        prevent_thread_lock=True,
        theme=theme,
        css=assets.css(),
        js=assets.js("page"),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        state_session_capacity=256,
        ssr_mode=False,
    )
    served.add_route(PATH, receive, methods=["POST"])
    print(f"MoLoRA Lens is at {address}", flush=True)
    if share:
        threading.Thread(target=lambda: print(_share(page), flush=True), daemon=True).start()
    if meanwhile:
        meanwhile()
    if block:
        page.block_thread()
    return address


def _share(page: gr.Blocks) -> str:
    """Opens a tunnel and says where it ends, or why there is none."""
    try:
        address = networking.setup_tunnel(page.server_name, page.server_port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # the tunnel fails in many ways, and none of them may take the local page down
        return f"No public address: {' '.join(str(error).split())[:200]} The page at {page.local_url} stays up."
    return f"Anyone can reach it at {address} for as long as this runs, a week at most."
