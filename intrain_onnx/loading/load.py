"""Load an untrusted ONNX file, in bounded time and memory, or raise one clear error.

Cheap checks come first, so that each step may rely on the ones before: the kind and size of the file, the
protobuf encoding (`protobuf_scan`), protobuf's own parser, then the structure (`model_checks`,
`function_checks`) with the data of every tensor (`tensor_checks`) and the external files (`external_data`).
What is scanned and parsed is without the data of large tensors, which stays in the file (`embedded_data`).
Nothing is run, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import google.protobuf.message  # type: ignore[import-untyped]
import onnx
import onnx.checker
import onnx_ir as ir
from onnx_ir import serde

from intrain_onnx import memory, untrusted
from intrain_onnx.errors import LimitError, ModelFileError, printable
from intrain_onnx.loading import allowance, embedded_data, file_contents, protobuf_scan
from intrain_onnx.loading.embedded_data import EmbeddedTensor, NamedTensor, Payload, payload_of
from intrain_onnx.loading.external_data import ExternalFile, ExternalFiles, parts
from intrain_onnx.loading.file_contents import Contents
from intrain_onnx.loading.file_type import recognise
from intrain_onnx.loading.function_checks import plain_domain
from intrain_onnx.loading.limits import Limits, option
from intrain_onnx.loading.model_checks import check_model
from intrain_onnx.loading.tensor_checks import Payloads
from intrain_onnx.loading.warnings import ModelWarning, Notes

__all__ = ["Limits", "LoadedModel", "ModelWarning", "Source", "load"]

_CHECKER_BYTES = 64 * 2**20
_PROTOBUF_BYTES = Limits().file_bytes


_Bytes = bytes  # the class below has a field of that name


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed all checks.

    Attributes:
        path: the file; None for a model in memory.
        sha256: digest of the file, or of the serialised model.
        bytes: its size, without external data.
        external: the files of its external data.
        tensor_bytes: sum of the sizes of all tensors, initializers and attributes.
        opset_imports: opset version by domain, "" for ai.onnx.
        warnings: findings that do not prevent a score.
    """

    path: Path | None
    sha256: str
    bytes: int
    external: tuple[ExternalFile, ...]
    tensor_bytes: int
    producer_name: str
    producer_version: str
    ir_version: int
    opset_imports: Mapping[str, int]
    warnings: tuple[ModelWarning, ...]
    _proto: onnx.ModelProto = field(repr=False)
    _folder: Path | None = field(repr=False)
    _payloads: Mapping[_Bytes, Payload] = field(repr=False)

    @property
    def model(self) -> ir.Model:
        """Same as `fresh`."""
        return self.fresh()

    @memory.collector_paused()
    def fresh(self) -> ir.Model:
        """A new ``onnx_ir.Model`` that shares no mutable state: rewrites may change it in place.

        The bytes of the weights are shared, and read-only. External data is mapped when it is first read;
        large tensors in the file itself are read when they are used (see `embedded_data`).
        Cost: 20 microseconds for each node.

        Raises:
            ModelFileError: onnx_ir cannot read it (the checks in `load` should have found that).
        """
        try:
            model = ir.from_proto(self._proto)
            for graph in (model.graph, *(function.graph for function in model.functions.values())):
                _own_tensors(graph, self._folder, self._payloads)
        except (serde.SerdeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ModelFileError(
                f"onnx_ir cannot read this model: {_root_cause(error)}", path=_text(self.path)
            ) from error
        return model

    def serialised(self) -> _Bytes:
        """The checked model as protobuf bytes, without external data.

        Raises:
            UnsafeModelError: the file changed since the model was loaded.
        """
        return _Bytes(embedded_data.filled(self._proto, self._payloads).SerializeToString())

    def for_onnxruntime(self) -> str | _Bytes:
        """The checked bytes; the path only for a model with external data, which onnxruntime finds by it."""
        return str(self.path) if self.external else self.serialised()

    def external_sha256(self) -> dict[str, str]:
        """SHA-256 of each external file, by its location in the model. Reads all of them: 1 s for each GB.

        Raises:
            UnsafeModelError: a file changed since the model was loaded.
        """
        return dict(self._external_sha256)

    @cached_property
    def _external_sha256(self) -> dict[str, str]:
        return {file.location: file.sha256() for file in self.external}


Source = str | os.PathLike[str] | onnx.ModelProto | ir.Model | LoadedModel
"""A model: the path of a file, a model in memory, or one that is already loaded."""


@memory.collector_paused()
def load(source: Source, limits: Limits | None = None) -> LoadedModel:
    """Load and check a model.

    Args:
        source: a path, or a model in memory, which is copied; a `LoadedModel` is returned unchanged.
        limits: what the file may ask for; by default those of the block around (see `allowance.held`).

    Raises:
        ModelFileError: it cannot be read, or is not a valid ONNX model.
        UnsafeModelError: it reaches outside its folder.
        UnsupportedError: valid, but with parts that nothing after this can take, such as sparse tensors.
        LimitError: it asks for more than the limits allow.
    """
    if isinstance(source, LoadedModel):
        return source
    with allowance.held(limits, _path_of(source)) as allowed:
        limits = allowed.limits
        if isinstance(source, (onnx.ModelProto, ir.Model)):
            data, folder = _from_memory(source)
            contents = Contents(data, len(data))
            return _load(contents, _parsed(contents, limits), None, folder, limits)
        path = Path(source)
        contents, proto = _from_file(path, limits)
        return _load(contents, proto, path, Path(os.path.realpath(path)).parent, limits)


def _load(
    contents: Contents, proto: onnx.ModelProto, path: Path | None, folder: Path | None, limits: Limits
) -> LoadedModel:
    notes = Notes()
    external = ExternalFiles(folder, limits, notes)
    payloads = Payloads(limits, external, contents.payloads)
    try:
        check_model(proto, limits, payloads, notes)
    except ModelFileError as error:
        raise recognise(contents.data) or error from None
    if not external.files:
        _ask_checker(contents, notes)
    return described(proto, payloads, notes, contents, path=path, folder=folder)


def described(
    proto: onnx.ModelProto,
    payloads: Payloads,
    notes: Notes,
    contents: Contents,
    *,
    path: Path | None = None,
    folder: Path | None = None,
) -> LoadedModel:
    """A model that passed the checks, with what they found."""
    return LoadedModel(
        path=path,
        sha256=contents.sha256,
        bytes=contents.size,
        external=tuple(payloads.external.files.values()),
        tensor_bytes=payloads.nbytes,
        producer_name=proto.producer_name,
        producer_version=proto.producer_version,
        ir_version=proto.ir_version,
        opset_imports={plain_domain(o.domain): o.version for o in proto.opset_import},
        warnings=notes.warnings(),
        _proto=proto,
        _folder=folder,
        _payloads=contents.payloads,
    )


def external_locations(path: Path, limits: Limits | None = None) -> list[str]:
    """Locations of the external data that a model names, relative to its folder; they need not exist.

    Raises:
        ModelFileError: it cannot be read, or is not a valid ONNX model.
        UnsafeModelError: one lies outside its folder.
        LimitError: it asks for more than the limits allow.
    """
    limits = limits or Limits()
    _, proto = _from_file(path, limits)
    try:
        model = serde.deserialize_model(proto)
    except (serde.SerdeError, ValueError, TypeError) as error:
        raise ModelFileError(f"this is not an ONNX model: {printable(error)}") from None
    return sorted({"/".join(parts(str(tensor.location))) for tensor in _external_tensors(model)})


def _from_file(path: Path, limits: Limits) -> tuple[Contents, onnx.ModelProto]:
    """What a file holds, scanned and parsed; for a damaged one as a whole, since errors name places in it."""
    contents = _read(path, limits)
    try:
        return contents, _parsed(contents, limits)
    except ModelFileError:
        if not contents.payloads:
            raise
    contents = _read(path, limits, whole=True)
    return contents, _parsed(contents, limits)


def _read(path: Path, limits: Limits, *, whole: bool = False) -> Contents:
    """What a regular file holds; in memory if the ``whole`` is asked for."""
    try:
        with untrusted.opened(path) as (file, size):
            if size > limits.file_bytes:
                fits = size <= _PROTOBUF_BYTES
                raise LimitError(
                    f"the file has {size:,} bytes, over the limit file_bytes={limits.file_bytes:,}",
                    limit="file_bytes",
                    hint=option("file_bytes", size)
                    if fits
                    else "Larger models must keep their weights in external data",
                )
            contents = file_contents.split(file, size) if not whole else None
            if contents is None:
                file.seek(0)
                data = file.read(size)
                contents = Contents(data, len(data))
            return contents
    except untrusted.NotRegularError as error:
        raise ModelFileError(str(error), hint="Name the .onnx file itself") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFileError(f"cannot read the file: {reason}") from None


def _from_memory(source: onnx.ModelProto | ir.Model) -> tuple[bytes, Path | None]:
    """A model in memory as protobuf bytes, and the folder of its external data; None if it has none."""
    folders: set[Path] = set()
    try:
        if isinstance(source, ir.Model):
            folders = {Path(os.path.realpath(t.base_dir)) for t in _external_tensors(source) if t.base_dir}
            source = ir.to_proto(source)
        data = source.SerializeToString(deterministic=True)
    except (google.protobuf.message.Error, ValueError, serde.SerdeError) as error:
        raise ModelFileError(
            f"this model cannot be serialised: {printable(error)}",
            hint="Over 2 GB, save it with external data and give the path",
        ) from None
    if len(folders) > 1:
        raise ModelFileError("external data in more than one folder", hint="Save the model and give the path")
    return data, next(iter(folders), None)


def _external_tensors(model: ir.Model) -> list[ir.ExternalTensor]:
    tensors = [v.const_value for graph in _graphs(model.graph) for v in graph.initializers.values()]
    nodes = [*model.graph.all_nodes(), *(n for f in model.functions.values() for n in f.all_nodes())]
    tensors += [a.value for n in nodes for a in n.attributes.values() if a.type == ir.AttributeType.TENSOR]
    return [t for t in tensors if isinstance(t, ir.ExternalTensor)]


def _parsed(contents: Contents, limits: Limits) -> onnx.ModelProto:
    try:
        protobuf_scan.scan(contents.data, limits)
        return _parse(contents.data)
    except ModelFileError as error:
        raise recognise(contents.data) or error from None


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except google.protobuf.message.DecodeError as error:
        raise ModelFileError(f"this is not an ONNX model, or a damaged one: {printable(error)}") from None
    return proto


def _ask_checker(contents: Contents, notes: Notes) -> None:
    """Run onnx's checker for what is not checked here, such as an output without a shape.

    Its error becomes a warning, since it refuses models that onnxruntime runs. It parses the file again, so
    only files up to 64 MiB are given to it; none with external data, which it would look for in the current
    folder; and without shape inference (full_check), which may take memory without bound. Data that is still
    in the file is known to fit its shape by then.
    """
    if contents.size > _CHECKER_BYTES:
        return
    data = contents.data
    if contents.payloads:
        proto = _parse(data)
        embedded_data.empty(proto, contents.payloads)
        data = proto.SerializeToString()
    try:
        onnx.checker.check_model(data, full_check=False)
    except Exception as error:  # the C++ code throws many types
        if memory.ran_out(error):
            raise
        notes.add("onnx-checker", " ".join(str(error).split()), None)


def _graphs(graph: ir.Graph) -> list[ir.Graph]:
    """A graph and all its subgraphs."""
    found = [graph]
    for node in graph.all_nodes():
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                found.append(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
                found.extend(attribute.as_graphs())
    return found


def _own_tensors(graph: ir.Graph, folder: Path | None, payloads: Mapping[bytes, Payload]) -> None:
    """Give each tensor a name that can change without the message's, and the place of its data."""

    def own(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return _own(tensor, folder, payloads)

    for inner in _graphs(graph):
        for value in inner.initializers.values():
            if value.const_value is not None:
                value.const_value = own(value.const_value)
    for node in graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                node.attributes[name] = ir.AttrTensor(name, own(attribute.as_tensor()))
            elif attribute.type == ir.AttributeType.TENSORS:
                node.attributes[name] = ir.AttrTensors(name, [own(t) for t in attribute.as_tensors()])


def _own(
    tensor: ir.TensorProtocol, folder: Path | None, payloads: Mapping[bytes, Payload]
) -> ir.TensorProtocol:
    if isinstance(tensor, serde.TensorProtoTensor):
        payload = payload_of(tensor.raw, payloads)
        return EmbeddedTensor(tensor.raw, payload) if payload is not None else NamedTensor(tensor.raw)
    if isinstance(tensor, ir.ExternalTensor):
        assert folder is not None, "external data was checked against a folder"
        tensor.base_dir = str(folder)
    return tensor


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(f"{type(error).__name__}: {error}", 500)


def _path_of(source: Source) -> str | None:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
