package peer;

import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;

/** What a node does on the streams that others open: the table "What a listener serves" of tools/interop/README.md. */
final class Services {
    static final String PERF = "/perf/1.0.0";

    private static final int CODE = 42;

    private interface Service {
        void serve(Stream stream) throws IOException;
    }

    private final Executor threads = Executors.newCachedThreadPool(new DefaultThreadFactory("stream", true));
    private final Map<String, Service> services;

    Services(Node node) {
        services = Map.ofEntries(
                Map.entry(Ping.PROTOCOL, Services::echo),
                Map.entry(Identify.PROTOCOL, stream -> Identify.answer(stream, node, known())),
                Map.entry(PERF, Services::perf),
                Map.entry(name("echo"), Services::echo),
                Map.entry(name("sink"), Services::sink),
                Map.entry(name("source"), Services::source),
                Map.entry(name("reset"), stream -> {
                    Wire.exactly(stream.in, 1);
                    stream.reset(CODE);
                }),
                Map.entry(name("close"), stream -> {
                    Wire.exactly(stream.in, 1);
                    stream.connection.close(CODE);
                }),
                Map.entry(name("watch"), Services::watch),
                Map.entry(name("note"), Services::note),
                Map.entry(name("stop"), stream -> {
                    stream.out.write(Wire.exactly(stream.in, 1));
                    stream.close();
                }),
                Map.entry(name("back"), Services::back));
    }

    /** The whole name of a protocol of the matrix. */
    static String name(String protocol) {
        return "/libp2p-quic/" + protocol + "/1.0.0";
    }

    /** Serves a stream in a thread of its own. A failure resets it. */
    void serve(Stream stream) {
        threads.execute(() -> {
            try {
                services.get(Multistream.accept(stream, known())).serve(stream);
            } catch (IOException error) {
                System.err.println("stream: " + error);
                giveUp(stream);
            }
        });
    }

    private Set<String> known() {
        return services.keySet();
    }

    private static void giveUp(Stream stream) {
        try {
            stream.reset(0);
        } catch (IOException error) {
            System.err.println("its reset: " + error);
        }
    }

    /** A round of ping is 32 bytes there and back, so an echo serves it too. */
    private static void echo(Stream stream) throws IOException {
        stream.in.transferTo(stream.out);
        stream.finish();
    }

    private static void sink(Stream stream) throws IOException {
        stream.out.write(Pattern.digest(stream.in));
        stream.finish();
    }

    private static void source(Stream stream) throws IOException {
        long size = new DataInputStream(stream.in).readLong();
        stream.out.write(Pattern.write(stream.out, size));
        stream.finish();
    }

    private static void perf(Stream stream) throws IOException {
        long size = new DataInputStream(stream.in).readLong();
        stream.in.transferTo(OutputStream.nullOutputStream());
        Pattern.write(stream.out, size);
        stream.finish();
    }

    private static void watch(Stream stream) throws IOException {
        Line end = Line.of("event", "end").with("peer", stream.connection.peer());
        stream.out.write(Wire.exactly(stream.in, 1));
        try {
            stream.in.transferTo(OutputStream.nullOutputStream());
            end.with("how", "finished").with("code", null);
        } catch (Stream.Cut cut) {
            end.with("how", "cut").with("code", cut.code);
        }
        end.tell();
        stream.close();
    }

    private static void note(Stream stream) throws IOException {
        long size = stream.in.transferTo(OutputStream.nullOutputStream());
        Line.of("event", "note").with("peer", stream.connection.peer()).with("bytes", size).tell();
        stream.finish();
    }

    private static void back(Stream stream) throws IOException {
        Wire.exactly(stream.in, 1);
        Ping.rounds(stream.connection, 1);
        stream.out.write(1);
        stream.finish();
    }
}
