"""The generated Triton model repository."""

import stat

import pytest

from serving.convert import convert
from serving.model_repository import Repository, RepositoryError, generate, main
from testing import needs
from testing.servers.triton import TINY


@pytest.fixture
def model_dir(tmp_path):
    directory = tmp_path / "store" / "main.ctranslate2-int8"
    directory.mkdir(parents=True)
    (directory / "model.bin").touch()
    (directory / "config.json").write_text("{}")
    return directory


def described(model_dir, **changes) -> Repository:
    options = {"model_dir": model_dir, "runtime": "ctranslate2", "precision": "int8", "context_length": 2048}
    return Repository(**options | changes)


def config(target, model="fastertransformer"):
    return (target / model / "config.pbtxt").read_text()


def snapshot(root):
    return {str(path.relative_to(root)): path.lstat().st_mtime_ns for path in root.rglob("*")}


def test_both_models_are_made_over_the_resolved_weights(tmp_path, model_dir):
    current = model_dir.parent / "current.ctranslate2-int8"
    current.symlink_to(model_dir.name)
    target = tmp_path / "repository"
    assert generate(target, described(current))
    assert (target / "fastertransformer_stream" / "1" / "model").readlink() == model_dir
    assert not (target / "fastertransformer" / "1" / "model").exists(), "the unary model holds no weights"
    for name in ("fastertransformer", "fastertransformer_stream"):
        assert (target / name / "1" / "model.py").is_file()
    assert "decoupled: false" in config(target)
    assert "decoupled: true" in config(target, "fastertransformer_stream")


def test_generating_again_changes_nothing(tmp_path, model_dir):
    target = tmp_path / "repository"
    generate(target, described(model_dir))
    before = snapshot(target)
    (target / "fastertransformer" / "1" / "__pycache__").mkdir()
    assert not generate(target, described(model_dir))
    after = snapshot(target)
    assert {path: after[path] for path in before if path != "fastertransformer/1"} == {
        path: time for path, time in before.items() if path != "fastertransformer/1"
    }


def test_a_change_is_written_and_leaves_nothing_behind(tmp_path, model_dir):
    target = tmp_path / "repository"
    generate(target, described(model_dir))
    assert generate(target, described(model_dir, max_batch_size=4))
    assert "max_batch_size: 4" in config(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "store"]


def test_two_places_get_equal_files(tmp_path, model_dir):
    texts = []
    for name in ("a", "b"):
        generate(tmp_path / name, described(model_dir))
        texts.append(config(tmp_path / name))
    assert texts[0] == texts[1]


def test_any_user_may_read_the_repository(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir))
    assert stat.S_IMODE((tmp_path / "repository").stat().st_mode) & 0o055 == 0o055


def test_the_queue_is_bounded_and_a_requests_timeout_counts(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir, max_queue_size=7, max_queue_delay_us=250))
    for name, delay in (("fastertransformer", 0), ("fastertransformer_stream", 250)):
        text = config(tmp_path / "repository", name)
        assert "max_queue_size: 7" in text
        assert f"max_queue_delay_microseconds: {delay} " in text
        assert "allow_timeout_override: true" in text


def test_each_gpu_gets_an_instance_with_a_whole_copy(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir, gpus=2, precision="int8_float16"))
    assert "kind: KIND_GPU gpus: [ 0, 1 ]" in config(tmp_path / "repository", "fastertransformer_stream")
    assert "count: 1 kind: KIND_CPU" in config(tmp_path / "repository"), "the front needs no GPU"


def test_without_a_gpu_the_instances_are_on_the_cpu(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir, instances=2))
    assert "count: 2 kind: KIND_CPU" in config(tmp_path / "repository", "fastertransformer_stream")
    assert "count: 1 kind: KIND_CPU" in config(tmp_path / "repository")


@pytest.mark.parametrize("runtime", ["ctranslate2", "llama_cpp", "onnxruntime"])
def test_streams_and_whole_requests_each_leave_the_other_a_place(tmp_path, runtime):
    places = described(tmp_path, runtime=runtime, max_batch_size=64).places
    assert max(places["streams"], places["wholes"]) < places["parallel"]
    assert places["parallel"] <= places["streams"] + places["wholes"]


@pytest.mark.parametrize("numbered", [True, False])
def test_a_grammar_is_taken_where_tokens_have_names(tmp_path, numbered):
    needs.package("xllamacpp")
    from testing import gguf_files

    folder = tmp_path / "model"
    folder.mkdir()
    if numbered:
        convert(TINY, folder, "llama_cpp", "Q8_0")
    else:
        gguf_files.write(folder, gguf_files.byte_level)
    generate(tmp_path / "repository", described(folder, runtime="llama_cpp", precision="Q8_0"))
    for model in ("fastertransformer", "fastertransformer_stream"):
        assert ('key: "constrains"' in config(tmp_path / "repository", model)) is not numbered


def test_no_other_runtime_takes_a_grammar(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir))
    assert "constrains" not in config(tmp_path / "repository")


def test_the_backend_in_the_repository_needs_nothing_of_the_project(tmp_path, model_dir):
    generate(tmp_path / "repository", described(model_dir))
    for path in (tmp_path / "repository").rglob("*.py"):
        text = path.read_text()
        assert "from serving" not in text
        assert "import serving" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0: the value must be at least 1"),
        ({"gpus": -1}, "gpus is -1"),
        ({"runtime": "onnx"}, "choose one of ctranslate2, llama_cpp"),
        ({"runtime": "llama_cpp"}, "model-loader fetch"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_written(tmp_path, model_dir, changes, message):
    with pytest.raises(RepositoryError, match=message):
        generate(tmp_path / "repository", described(model_dir, **changes))
    assert not (tmp_path / "repository").exists()


def test_the_command_line_says_whether_anything_changed(tmp_path, model_dir, capsys):
    arguments = [str(tmp_path / "repository"), "--model-dir", str(model_dir), "--runtime", "ctranslate2"]
    arguments += ["--precision", "int8", "--context-length", "2048"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == ["changed", "unchanged"]
    assert main([*arguments, "--gpus", "-1"]) == 1
    assert "gpus is -1" in capsys.readouterr().err
