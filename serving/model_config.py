"""Writes a Triton model configuration with FasterTransformer's tensors."""

from dataclasses import dataclass

# name, type, dims, flags: s = one number per row (without a dimension in the decoupled model), o = optional,
# r = requests of different lengths may share a batch.
_INPUTS = (
    ("input_ids", "UINT32", "-1", "r"),
    ("input_lengths", "UINT32", "1", "s"),
    ("request_output_len", "UINT32", "-1", ""),
    ("runtime_top_k", "UINT32", "1", "so"),
    ("runtime_top_p", "FP32", "1", "so"),
    ("beam_search_diversity_rate", "FP32", "1", "so"),
    ("random_seed", "INT32", "1", "so"),
    ("temperature", "FP32", "1", "so"),
    ("len_penalty", "FP32", "1", "so"),
    ("repetition_penalty", "FP32", "1", "so"),
    ("is_return_log_probs", "BOOL", "1", "so"),
    ("beam_width", "UINT32", "1", "so"),
    ("start_id", "UINT32", "1", "so"),
    ("end_id", "UINT32", "1", "so"),
    ("bad_words_list", "INT32", "2, -1", "or"),
    ("stop_words_list", "INT32", "2, -1", "or"),
)
_OUTPUTS = (
    ("output_ids", "UINT32", "-1, -1"),
    ("sequence_length", "UINT32", "-1"),
    ("cum_log_probs", "FP32", "-1"),
    ("output_log_probs", "FP32", "-1, -1"),
)
_STREAM_OUTPUTS = (("row_index", "INT32", "1"), ("row_final", "BOOL", "1"))


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The content of one ``config.pbtxt``. ``gpus`` 0 means the CPU; the backend reads ``parameters``."""

    name: str
    decoupled: bool
    max_batch_size: int
    instances: int
    gpus: int
    max_queue_delay_us: int
    max_queue_size: int
    parameters: dict[str, str]

    def text(self) -> str:
        """Return the configuration in protobuf text format; equal configurations give equal text."""
        outputs = _OUTPUTS + (_STREAM_OUTPUTS if self.decoupled else ())
        lines = [
            f'name: "{self.name}"',
            'backend: "python"',
            f"max_batch_size: {self.max_batch_size}",
            f"model_transaction_policy {{ decoupled: {str(self.decoupled).lower()} }}",
            *(self._input(*spec) for spec in _INPUTS),
            *(
                f'output {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}'
                for name, kind, dims in outputs
            ),
            self._batching(),
            self._instances(),
            *(_parameter(key, value) for key, value in sorted(self.parameters.items())),
        ]
        return "\n".join(lines) + "\n"

    def _input(self, name: str, kind: str, dims: str, flags: str) -> str:
        text = f'input {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ]'
        # A unary model passes its inputs on, with the dimension that the other model's clients send.
        text += " reshape: { shape: [ ] }" if "s" in flags and self.decoupled else ""
        text += " optional: true" if "o" in flags else ""
        text += " allow_ragged_batch: true" if "r" in flags else ""
        return text + " }"

    def _batching(self) -> str:
        """Bound the queue: a request is refused when the queue is full, or when its own timeout passes."""
        policy = f"max_queue_size: {self.max_queue_size} timeout_action: REJECT allow_timeout_override: true"
        delay = f"max_queue_delay_microseconds: {self.max_queue_delay_us}"
        return f"dynamic_batching {{ {delay} default_queue_policy {{ {policy} }} }}"

    def _instances(self) -> str:
        if not self.gpus:
            return f"instance_group [ {{ count: {self.instances} kind: KIND_CPU }} ]"
        devices = ", ".join(str(index) for index in range(self.gpus))
        return f"instance_group [ {{ count: {self.instances} kind: KIND_GPU gpus: [ {devices} ] }} ]"


def _parameter(key: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'parameters {{ key: "{key}" value: {{ string_value: "{escaped}" }} }}'
