"""What brought other WebSocket libraries down, and where this one is tested for it.

Each row is something that has happened to a library that people use; the tests beside it would fail here if it came
back. A test that is renamed or removed is missed by the check at the end.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# What happened; the tests, by file.
ROWS: dict[str, dict[str, list[str]]] = {
    "1 a small compressed message that inflates without end": {
        "core/test_deflate_limits.py": [
            "test_exactly_the_limit_passes_and_one_octet_more_does_not",
            "test_the_limit_in_any_fragments_and_chunks",
            "test_the_limit_holds_with_context_takeover",
            "test_the_peak_is_the_limit_and_little_more",
        ],
    },
    "2 endless fragments, an object kept for each": {
        "core/test_codec_limits.py": ["test_a_flood_of_fragments_is_bounded", "test_no_more_fragments_than_the_limit"],
        "adapters/test_limits.py": ["test_fragments"],
    },
    "3 a message octet by octet, each kept as an object": {
        "core/test_codec_limits.py": [
            "test_a_message_in_tiny_chunks_keeps_no_objects",
            "test_a_message_in_tiny_chunks_takes_little_memory",
        ],
    },
    "4 one read of tiny frames holds the loop": {
        "core/test_codec_limits.py": ["test_a_read_of_empty_frames_is_taken_in_steps"],
        "adapters/test_limits.py": [
            "test_the_loop_has_its_turn_within_one_read",
            "test_a_flood_of_empty_frames_keeps_nobody_from_the_server",
        ],
    },
    "5 pings from a peer that never reads": {
        "adapters/test_peers.py": ["test_ping_flood_without_reading_is_bounded"],
        "core/test_protocol.py": ["test_pongs_that_wait_coalesce"],
    },
    "6 a handshake that never ends": {
        "adapters/test_servers.py": [
            "test_stalled_openings",
            "test_request_of_one_octet_at_a_time_is_ended",
            "test_plain_octets_on_a_tls_port",
        ],
        "adapters/test_limits.py": ["test_half_open_ones_keep_nobody_out", "test_hooks_are_not_half_open"],
    },
    "7 too many or too large headers": {
        "core/test_server_handshake.py": [
            "test_a_bad_request",
            "test_the_head_may_have_exactly_max_header_size",
            "test_the_default_limit_is_16_kib",
        ],
    },
    "8 a header that takes quadratic time": {
        "core/test_server_handshake.py": ["test_time_is_linear_in_a_header"],
        "core/test_extensions.py": ["test_time_grows_with_the_length_and_no_faster"],
    },
    "9 octets in a header that are not ASCII": {
        "core/test_server_handshake.py": [
            "test_any_octets_in_every_sec_header",
            "test_every_octet_in_the_path_and_in_values",
        ],
        "adapters/test_servers.py": ["test_fuzzed_requests"],
    },
    "12 any web page may connect": {
        "core/test_origins.py": ["test_same_origin", "test_two_origins"],
        "adapters/test_servers.py": ["test_origins"],
    },
    "13 the Host header is not looked at": {
        "adapters/test_limits.py": ["test_hosts"],
        "core/test_server_handshake.py": ["test_a_bad_request"],
    },
    "14 request smuggling": {
        "core/test_server_handshake.py": [
            "test_a_bad_request",
            "test_bytes_behind_the_request",
            "test_any_chunking_with_bytes_behind",
        ],
    },
    "15 frames without a mask; masks that can be guessed": {
        "core/test_codec.py": ["test_any_chunking_of_a_broken_stream", "test_encode_masks_with_a_new_key_each_time"],
        "core/test_masking.py": [
            "test_each_octet_of_urandom_is_used_once",
            "test_keys_look_random",
            "test_a_child_never_uses_the_keys_of_its_parent",
            "test_threads_never_share_a_key",
        ],
    },
    "16 wrong types reach memory": {
        "core/test_protocol_sending.py": ["test_what_cannot_be_sent"],
        "core/test_protocol.py": ["test_close_takes_a_number_and_a_str"],
        "core/test_native.py": ["test_wrong_arguments"],
    },
    "16b masking reads past the end of its input": {
        "core/test_native.py": [
            "test_masks_of_every_length_at_every_alignment_at_the_edge_of_a_page",
            "test_frames_at_the_edge_of_a_page",
        ],
    },
    "17 lengths that overflow": {
        "core/test_codec_limits.py": ["test_a_huge_length_allocates_nothing"],
        "core/test_wsproto.py": ["test_every_first_octet_after_every_beginning"],
    },
    "18 continuation without a start, reserved bits, control frames inside of fragments": {
        "core/test_codec.py": ["test_any_chunking_of_a_broken_stream", "test_controls_come_in_their_place"],
        "core/test_wsproto.py": ["test_frames_without_any_order", "test_broken_streams"],
    },
    "19 a send that is cancelled mixes messages": {
        "core/test_deflate.py": ["test_an_interrupted_send_does_not_mix_messages"],
        "adapters/test_asyncio.py": ["test_cancelled_sends", "test_many_senders_some_cancelled"],
    },
    "20 races of closing, and what is left behind": {
        "core/test_protocol_pair.py": ["test_simultaneous_close_in_all_schedules"],
        "adapters/test_conformance.py": ["test_simultaneous_close"],
        "adapters/test_blocking.py": ["test_close_while_another_thread_is_about_to_wait", "test_close_from_any_thread"],
    },
    "21 what a hook or a handler raises ends the server": {
        "adapters/test_servers.py": [
            "test_handler_that_raises",
            "test_hook_that_raises",
            "test_process_request_that_returns_nonsense",
        ],
    },
    "23 the caller's text breaks the header": {
        "core/test_client_handshake.py": ["test_nothing_of_the_caller_can_break_the_request"],
        "core/test_server_handshake.py": ["test_nothing_of_the_caller_can_break_the_answer"],
    },
    "24 a stranger writes on the terminal": {
        "test_cli.py": [
            "test_control_characters_are_inert_in_every_way_to_the_screen",
            "test_a_stranger_cannot_write_on_the_terminal",
        ],
    },
    "25 TLS that ends without saying so looks like a normal end": {
        "adapters/test_peers.py": ["test_tls_end_without_close_notify", "test_tls_close_notify_without_close"],
    },
    "26 a client without a limit": {
        "core/test_codec_limits.py": ["test_a_message_of_exactly_max_size_and_no_more"],
        "adapters/test_peers.py": ["test_message_of_exactly_max_size"],
    },
    "a slow peer of a broadcast grows without end": {
        "adapters/test_slow_consumers.py": [
            "test_closing",
            "test_dropping_the_oldest",
            "test_pongs_go_in_front_of_what_waits",
        ],
    },
    "a healthy peer is given up because we were busy": {
        "core/test_keepalive.py": ["test_a_deadline_that_passed_while_we_were_busy", "test_given_up_for_silence_only"],
    },
    "a connection ends with nothing but 1006": {"adapters/test_causes.py": ["test_ways_to_the_end"]},
    "stopping a server loses what was accepted": {
        "adapters/test_drain.py": ["test_what_was_accepted_is_answered", "test_under_load"],
    },
}

# What cannot happen here, and why.
NOT_HERE = {
    "10 comparing passwords takes as long as they are alike": "there is no authentication in the library",
    "11 credentials follow a redirect": "redirects are not followed",
    "22 what a proxy answers to CONNECT": "there are no proxies yet: proxy= is refused",
}


@functools.cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_are_there(row: str) -> None:
    missing = [
        f"{path}::{name}" for path, names in ROWS[row].items() for name in names if name not in functions(HERE / path)
    ]
    assert not missing


def test_no_row_is_left_out() -> None:
    told = {row.split()[0] for row in [*ROWS, *NOT_HERE]}
    assert {*map(str, range(1, 27)), "16b"} <= told
