"""Sizes at which the kernels of each operator change how they work."""
import torch

# Sizes at the tile edges of the kernels (32, 64, 128) that the specs' cases do not reach, and what must run there, by name and threads of a block.
EDGES = {
    "bilinear_attention": {
        "tile 32": (dict(B=1, C=2, L=32, M=32, E=33), torch.float32, {"forward_kernel 64", "plane_kernel 64", "sums_kernel 256"}),
        "tile 64": (dict(B=1, C=2, L=64, M=64, E=64), torch.float32, {"forward_kernel 256", "plane_kernel 256"}),
        "below 64": (dict(B=1, C=1, L=63, M=34, E=65), torch.float32, {"forward_kernel 256", "plane_kernel 256"}),
        "rows above 64": (dict(B=1, C=1, L=65, M=5, E=3), torch.float32, {"rows_kernel 256", "cols_kernel 256", "values_kernel 256"}),
        "columns above 64": (dict(B=2, C=2, L=4, M=130, E=66), torch.float32, {"forward_kernel 64", "rows_kernel 256"}),
        "double above 32": (dict(B=1, C=2, L=33, M=40, E=35), torch.float64, {"forward_kernel 256", "rows_kernel 64", "cols_kernel 64", "values_kernel 64"}),
        "double 32": (dict(B=1, C=2, L=32, M=31, E=2), torch.float64, {"plane_kernel 64"}),
        "no row, tiles": (dict(B=1, C=2, L=0, M=70, E=3), torch.float32, {"cols_kernel 256", "values_kernel 256"}),
        "no column, tiles": (dict(B=1, C=2, L=3, M=70, E=0), torch.float32, {"rows_kernel 256", "cols_kernel 256"}),
    },
    "linear_cross_attention": {
        "one feature tile": (dict(B=1, h=1, N=64, M=128, d=32, e=32), torch.float32, {"state_kernel 64", "forward_kernel 128", "queries_kernel 128", "keys_kernel 128"}),
        "two splits": (dict(B=2, h=1, N=129, M=130, d=3, e=2), torch.float32, {"sums_kernel 256"}),
        "wide queries": (dict(B=1, h=2, N=3, M=4, d=65, e=2), torch.float32, {"state_kernel 256", "forward_kernel 128", "queries_kernel 256", "keys_kernel 256"}),
        "wide values": (dict(B=1, h=2, N=3, M=4, d=2, e=130), torch.float32, {"state_kernel 256", "forward_kernel 256", "queries_kernel 128"}),
        "double": (dict(B=1, h=1, N=65, M=3, d=33, e=34), torch.float64, {"queries_kernel 256"}),
        "no feature": (dict(B=1, h=2, N=3, M=4, d=0, e=3, eps=0.5), torch.float32, {"forward_kernel 128", "keys_kernel 128"}),
    },
    # Tiles of 8 rows, and of 32 columns x 8 channels, or 8 columns x 32 channels where these are innermost.
    "pixel_difference": {
        "one tile of columns": (dict(B=1, D=8, H=8, W=32, n=2), torch.float32, {"forward_kernel 256", "terms_kernel 256", "weights_kernel 256", "gather_kernel 256"}),
        "past it": (dict(B=1, D=9, H=9, W=33, n=2), torch.float32, {"forward_kernel 256", "sums_kernel 256"}),
        "one tile of channels": (dict(B=1, D=32, H=8, W=8, n=2, channels_last=True), torch.float32, {"forward_kernel 256", "gather_kernel 256"}),
        "past that": (dict(B=1, D=33, H=9, W=9, n=2, channels_last=True), torch.float16, {"forward_kernel 256", "gather_kernel 256"}),
        "any n": (dict(B=1, D=3, H=17, W=5, n=3), torch.float32, {"terms_kernel 256"}),
        "double": (dict(B=1, D=3, H=9, W=7, n=2, channels_last=True), torch.float64, {"terms_kernel 256"}),
    },
    # Threads of a block: 32 for each four states, or for each one where N is no multiple of four or in double; at most 128, and the rest of N in another
    # launch. Chunks of 64 steps forward, of 32 and more backward.
    "pixel_difference_scan": {
        "one chunk": (dict(B=1, D=4, H=8, W=8, N=4, n=2), torch.float32, {"scan_kernel 32", "reverse_kernel 32", "forward_kernel 256", "gather_kernel 256"}),
        "chunks": (dict(B=1, D=3, H=5, W=13, N=16, n=2), torch.float32, {"ends_kernel 128", "chunks_kernel 128", "scan_kernel 128", "reverse_kernel 128"}),
        "channel tiles": (dict(B=1, D=33, H=6, W=6, N=8, n=2), torch.float32, {"scan_kernel 64", "reverse_kernel 64", "maps_kernel 256"}),
        "fours of channels": (dict(B=1, D=32, H=7, W=10, N=12, n=2, channels_last=True), torch.float32, {"scan_kernel 96"}),
        "fours of halves": (dict(B=1, D=8, H=7, W=5, N=8, n=2, channels_last=True), torch.float16, {"scan_kernel 64"}),
        "no fours of states": (dict(B=1, D=3, H=4, W=9, N=7, n=1), torch.float32, {"scan_kernel 128", "scan_kernel 96"}),
        "two launches": (dict(B=1, D=3, H=7, W=10, N=20, n=None), torch.float32, {"scan_kernel 128", "scan_kernel 32", "reverse_kernel 32", "merge_kernel 256"}),
        "many chunks": (dict(B=1, D=1, H=12, W=14, N=2, n=2), torch.float32, {"ends_kernel 64", "chunks_kernel 128", "scan_kernel 64", "reverse_kernel 64"}),
        "double": (dict(B=1, D=2, H=6, W=7, N=5, n=2), torch.float64, {"scan_kernel 128", "scan_kernel 32"}),
    },
    # Tiles of 8 channels, of 8 to 64 rows, and of 64 columns (32 in double), less the halo on both sides where that is not all. Sweeps of 4 steps forward and 3
    # backward, with all_high 2, and in double 3 and 2.
    "wavelet_diffusion": {
        "one tile": (dict(B=1, C=8, H=8, W=64, steps=3), torch.float32, {"forward_kernel 256", "backward_kernel 256", "sums_kernel 256"}),
        "past it": (dict(B=1, C=9, H=9, W=65, steps=1), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "past two strips": (dict(B=1, C=1, H=17, W=109, steps=3), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "one tile of channels": (dict(B=1, C=8, H=8, W=8, steps=4, channels_last=True), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "past that": (dict(B=1, C=9, H=9, W=65, steps=2, channels_last=True), torch.float16, {"forward_kernel 256", "backward_kernel 256"}),
        "sweeps": (dict(B=1, C=3, H=11, W=5, steps=9), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "sweeps, all_high": (dict(B=1, C=3, H=11, W=5, steps=7, all_high=True, channels_last=True), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "strips of four steps": (dict(B=1, C=1, H=9, W=121, steps=4), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "strips, all_high": (dict(B=1, C=1, H=9, W=65, steps=2, all_high=True), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "double": (dict(B=1, C=2, H=9, W=33, steps=5), torch.float64, {"forward_kernel 256", "backward_kernel 256"}),
        "taller tiles": (dict(B=133, C=1, H=17, W=3, steps=1), torch.float32, {"forward_kernel 256", "backward_kernel 256"}),
        "no cell": (dict(B=1, C=3, H=1, W=66, steps=2), torch.float32, {"forward_kernel 256", "sums_kernel 256"}),
    },
}
