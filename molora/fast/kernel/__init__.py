"""What a CPU computes in compiled code: the way of one token, or of many, through all layers.

As torch's own functions a token is a thousand small calls, which cost more than their arithmetic, and a prompt's picked
experts can be had only by computing all. Compiled with numba, which needs no compiler on the user's machine. What takes
longer than a thread to wake is shared by several. Start reading at `passes`.

Where torch holds the numbers, they are told by the address of numbers side by side (`*_at`), since a tensor takes
longer to hand over than to work on. Arrays called narrow are float32, bfloat16 as uint16, which numpy lacks, or
float16 as int16, which numba lacks: so keys and values are kept.

Axes: N tokens, P linears that read one input, E experts, K picked, R rank, I in_features, O out_features of one, H
heads, G key heads, D size of a head, T tokens to attend to. I, O and D are multiples of 16.
"""

from molora.fast.kernel.attention import attended
from molora.fast.kernel.causal import attended_by_many
from molora.fast.kernel.granted import TILES
from molora.fast.kernel.levels import multiplied
from molora.fast.kernel.likeliest import BLOCK, best
from molora.fast.kernel.lowering import packed_ranks
from molora.fast.kernel.packing import packed
from molora.fast.kernel.panels import all_adapted
from molora.fast.kernel.passes import read_many, read_one, read_tiled
from molora.fast.kernel.prompt import mixed
from molora.fast.kernel.scoring import scored
from molora.fast.kernel.table import Table
from molora.fast.kernel.tiled import all_tiled
from molora.fast.kernel.tiled_causal import attended_in_tiles
from molora.fast.kernel.token import adapted, all_normed
from molora.fast.kernel.turning import all_turned

__all__ = [
    "BLOCK",
    "TILES",
    "Table",
    "adapted",
    "all_adapted",
    "all_normed",
    "all_tiled",
    "all_turned",
    "attended",
    "attended_by_many",
    "attended_in_tiles",
    "best",
    "mixed",
    "multiplied",
    "packed",
    "packed_ranks",
    "read_many",
    "read_one",
    "read_tiled",
    "scored",
]
