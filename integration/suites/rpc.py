"""Calls methods of a containerd's gRPC API, CRI among them.

    rpc.py SOCKET NAMESPACE PACKAGE.SERVICE/METHOD [REQUEST]

REQUEST and the answer are in protobuf's text format; exit status 1 is the server's refusal, on stderr.

Which messages there are is not written down here: every Go program with generated protobuf code carries the
descriptors of its files, so they are read out of the containerd in PATH, and are those of its version.
"""
import re
import shutil
import sys
import zlib

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format
# The files that the descriptors below refer to have to be in the default pool.
from google.protobuf import any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

WELL_KNOWN = [any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2, descriptor_pb2]


def varint(data, at):
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def raw_file(data, start):
    """A descriptor that is not compressed has no length: it ends with its field 12, the syntax."""
    at = start
    while at < start + 1_000_000:
        tag, at = varint(data, at)
        if tag & 7 != 2 or not 1 <= tag >> 3 <= 12:
            return None
        size, at = varint(data, at)
        at += size
        if tag >> 3 == 12:
            return data[start:at]
    return None


def files_in(program):
    """All FileDescriptorProtos in a Go program, of both generators: gogo's compressed, Google's as they are."""
    data = open(program, "rb").read()
    found = {}

    def add(serialized):
        try:
            file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        except (message.DecodeError, TypeError):
            return
        if file.name.endswith(".proto") and (file.message_type or file.service):
            # Go's registry has one name per file, but "api.proto" is used by several packages
            found.setdefault((file.package, file.name), file)

    for m in re.finditer(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00", data):
        unpacker = zlib.decompressobj(31)
        try:
            serialized = unpacker.decompress(data[m.start():m.start() + 1_000_000])
        except zlib.error:
            continue
        if unpacker.eof:
            add(serialized)
    for m in re.finditer(rb"\n([\x08-\x7f])[a-z][\w./-]+?\.proto\x12", data):
        if m.end() - m.start() == m.group(1)[0] + 3:
            try:
                add(raw_file(data, m.start()))
            except IndexError:
                continue
    return found.values()


class Client:
    """A channel to one server. `call` answers with the message, and raises grpc.RpcError."""

    def __init__(self, socket, namespace="", timeout=60):
        self.timeout = timeout
        self.metadata = [("containerd-namespace", namespace)] if namespace else []
        self.channel = grpc.insecure_channel("unix://" + socket, options=[("grpc.max_receive_message_length", 64 << 20)])
        self.files = {(f.package, f.name): f for f in files_in(shutil.which("containerd"))}
        self.names = {f.name: f for f in self.files.values() if f.package != "gogoproto"}
        self.pools = {}

    def pool(self, package):
        """A pool with the files of one package and what they import."""
        if package not in self.pools:
            pool = self.pools[package] = descriptor_pool.DescriptorPool()
            done = set()
            for module in WELL_KNOWN:
                pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
                done.add(module.DESCRIPTOR.name)
            for file in [f for f in self.files.values() if f.package == package]:
                self.add(pool, file, done)
        return self.pools[package]

    def add(self, pool, file, done):
        if file.name in done:
            return
        done.add(file.name)
        # Without gogo's options: they are for its generator.
        known = [n for n in file.dependency if n in done or n in self.names]
        for name in known:
            if name not in done:
                self.add(pool, self.names[name], done)
        del file.dependency[:], file.public_dependency[:], file.weak_dependency[:]
        file.dependency.extend(known)
        pool.AddSerializedFile(file.SerializeToString())

    def method(self, path):
        """The classes of a method's request and answer."""
        service, name = path.split("/")
        pool = self.pool(service.rpartition(".")[0])
        method = pool.FindServiceByName(service).methods_by_name[name]
        if hasattr(message_factory, "GetMessageClass"):
            of = message_factory.GetMessageClass
        else:
            of = message_factory.MessageFactory(pool).GetPrototype
        return of(method.input_type), of(method.output_type)

    def call(self, path, request=None, **fields):
        ask, answer = self.method(path)
        send = self.channel.unary_unary("/" + path, ask.SerializeToString, answer.FromString)
        request = ask(**fields) if request is None else request
        return send(request, timeout=self.timeout, metadata=self.metadata)


def main():
    socket, namespace, path, *text = sys.argv[1:]
    client = Client(socket, namespace)
    request = client.method(path)[0]()
    text_format.Parse("".join(text), request)
    try:
        print(text_format.MessageToString(client.call(path, request)), end="")
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
