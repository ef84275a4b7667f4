"""FasterTransformer's tensors: what is read from a request and what is answered."""

import numpy as np
import pytest

from serving.backend.requests import BadRequestError, Request
from serving.backend.tensors import Limits, add_rows, stream_outputs, whole_outputs
from tests.serving.local import Recorder

LIMITS = Limits(vocabulary_size=2048, eos_id=0, context_length=64)


def tensors_of(**changes) -> dict[str, np.ndarray]:
    """Return one row as FauxPilot sends it, with changes; None leaves a tensor out."""
    tensors = {
        "input_ids": np.array([[5, 6, 7]], np.uint32),
        "input_lengths": np.array([[3]], np.uint32),
        "request_output_len": np.array([[16]], np.uint32),
        "runtime_top_k": np.array([[0]], np.uint32),
        "runtime_top_p": np.array([[0.9]], np.float32),
        "temperature": np.array([[0.2]], np.float32),
        "repetition_penalty": np.array([[1.0]], np.float32),
        "random_seed": np.array([[42]], np.int32),
        "end_id": np.array([[50256]], np.uint32),
        "bad_words_list": np.array([[[0], [-1]]], np.int32),
        "stop_words_list": np.array([[[0], [-1]]], np.int32),
    }
    tensors |= changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def rows_of(*, mergeable=False, **changes):
    request = Request(Recorder(), lambda row: None)
    add_rows(request, tensors_of(**changes), LIMITS, mergeable=mergeable)
    return request.rows


def scalar(value, kind=np.float32) -> np.ndarray:
    return np.array([[value]], kind)


def test_a_request_of_fauxpilot_is_read():
    (row,) = rows_of()
    assert (row.prompt, row.limit, row.seed, row.stop) == ([5, 6, 7], 16, 42, ())
    assert (row.params.top_k, row.params.top_p, row.params.temperature) == (0, 0.9, 0.2)
    assert row.params.end_id == 0, "an end_id outside the vocabulary means the model's own"


def test_only_the_three_required_tensors_are_required():
    everything_else = dict.fromkeys(set(tensors_of()) - {"input_ids", "input_lengths", "request_output_len"})
    (row,) = rows_of(**everything_else)
    assert row.limit == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime_top_k": scalar(1, np.uint32)},
        {"temperature": scalar(0.0)},
        {"runtime_top_k": scalar(0, np.uint32), "runtime_top_p": scalar(0.0)},
    ],
)
def test_every_way_to_say_greedy_is_one_setting(changes):
    greedy = rows_of(runtime_top_k=scalar(1, np.uint32), runtime_top_p=scalar(1.0), temperature=scalar(1.0))
    assert rows_of(**changes)[0].params == greedy[0].params


def test_a_repetition_penalty_of_zero_means_none():
    assert rows_of(repetition_penalty=scalar(0.0))[0].params.repetition_penalty == 1.0


def test_the_seed_does_not_count_where_the_request_is_mergeable():
    assert rows_of(mergeable=True)[0].seed is None


def test_other_integer_types_are_read_too():
    (row,) = rows_of(input_ids=np.array([[5, 6, 7]], np.int32), random_seed=np.array([[2**40]], np.uint64))
    assert row.seed == 2**40


def test_word_lists_hold_several_words_of_several_tokens():
    words = np.array([[[1, 2, 3, 4], [1, 4, -1, -1]]], np.int32)
    assert rows_of(stop_words_list=words)[0].stop == ((1,), (2, 3, 4))


def test_words_that_the_model_cannot_generate_are_dropped():
    words = np.array([[[50257, 7], [1, 2]]], np.int32)
    assert rows_of(stop_words_list=words, bad_words_list=words)[0].stop == ((7,),)


def test_an_empty_prompt_is_continued_from_the_end_of_text():
    (row,) = rows_of(input_lengths=scalar(0, np.uint32))
    assert row.prompt == [0]


def test_padding_after_the_prompt_is_not_read():
    (row,) = rows_of(input_ids=np.array([[5, 6, 9999]], np.uint32), input_lengths=scalar(2, np.uint32))
    assert row.prompt == [5, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request_output_len": scalar(62, np.uint32)}, "3 prompt tokens and 62 requested tokens exceed"),
        ({"request_output_len": scalar(-1, np.int32)}, "must not be negative"),
        ({"input_ids": np.array([[5, 6, 2048]], np.uint32)}, "outside the model's vocabulary of 2048"),
        ({"input_ids": np.array([[5, 6, -1]], np.int32)}, "outside the model's vocabulary of 2048"),
        ({"input_lengths": scalar(4, np.uint32)}, "input_lengths is 4 but input_ids has 3 tokens"),
        ({"beam_width": scalar(2, np.uint32)}, "send beam_width 1"),
        ({"temperature": scalar(np.nan)}, "temperature is nan: the value must be a finite number"),
        ({"runtime_top_p": scalar(np.inf)}, "runtime_top_p is inf"),
        ({"temperature": scalar(-1.0)}, "must not be negative"),
        ({"stop_words_list": np.array([[[1, 2], [2, 1]]], np.int32)}, "offsets must increase"),
        ({"stop_words_list": np.array([[[1, 2], [1, 9]]], np.int32)}, "offsets must increase"),
    ],
)
def test_a_request_that_can_never_be_served_is_refused_with_the_reason(changes, message):
    with pytest.raises(BadRequestError, match=message):
        rows_of(**changes)


def test_the_longest_request_that_fits_is_accepted():
    assert rows_of(request_output_len=scalar(61, np.uint32))[0].limit == 61


def test_the_answer_has_fastertransformers_shapes():
    tensors = {name: np.repeat(tensor, 2, 0) for name, tensor in tensors_of().items()}
    request = Request(Recorder(), lambda row: None)
    add_rows(request, tensors, LIMITS, mergeable=False)
    request.rows[0].push(9, -0.5)
    request.rows[0].push(0, -1.0)
    outputs = whole_outputs(request.rows, 3, [3, 3])
    assert {name: output.shape for name, output in outputs.items()} == {
        "output_ids": (2, 1, 19), "sequence_length": (2, 1), "cum_log_probs": (2, 1), "output_log_probs": (2, 1, 16),
    }  # fmt: skip
    assert outputs["sequence_length"].tolist() == [[5], [3]]
    assert outputs["output_ids"][0, 0, :6].tolist() == [5, 6, 7, 9, 0, 0]
    assert outputs["cum_log_probs"][0, 0] == pytest.approx(-1.5)


def test_a_streamed_response_holds_the_new_tokens_of_one_row():
    (row,) = rows_of()
    for token in (9, 10, 11):
        row.push(token, -1.0)
    outputs = stream_outputs(row, 1, 3, 3, final=False)
    assert outputs["output_ids"].tolist() == [[[10, 11]]]
    assert outputs["sequence_length"].tolist() == [[6]]
    assert outputs["row_index"].tolist() == [[0]]
    assert outputs["row_final"].tolist() == [[False]]
