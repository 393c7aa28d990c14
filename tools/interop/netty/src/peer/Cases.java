package peer;

import java.io.BufferedReader;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** What a dialer does: the table "What a dialer does" of tools/interop/README.md. Each case adds its facts to the answer. */
final class Cases {
    interface Case {
        void run(Cases dialer) throws IOException, InterruptedException;
    }

    private static final int KIBIBYTE = 1 << 10, MEBIBYTE = 1 << 20;
    private static final int CODE = 43;

    private static final Map<String, Case> ALL = Map.ofEntries(
            Map.entry("handshake", Cases::handshake),
            Map.entry("ping", Cases::ping),
            Map.entry("identify", Cases::identify),
            Map.entry("echo", Cases::echo),
            Map.entry("streams", Cases::streams),
            Map.entry("bulk", Cases::bulk),
            Map.entry("reset", Cases::reset),
            Map.entry("close", Cases::close),
            Map.entry("idle", Cases::idle),
            Map.entry("load", Cases::load),
            Map.entry("slow", Cases::slow),
            Map.entry("note", Cases::note),
            Map.entry("stop", Cases::stop),
            Map.entry("early", Cases::early),
            Map.entry("many", Cases::many),
            Map.entry("back", Cases::back),
            Map.entry("listening", Cases::listening),
            Map.entry("perf", Cases::perf),
            Map.entry("restart", Cases::restart));

    private final Node node;
    private final Address to;
    private final List<Address> more;
    private final Line said;

    private Cases(Node node, Address to, List<Address> more, Line said) {
        this.node = node;
        this.to = to;
        this.more = more;
        this.said = said;
    }

    /** @param addresses the one to dial, and for the case "many" some more */
    static void run(String name, Node node, List<Address> addresses, Line said)
            throws IOException, InterruptedException {
        Case found = ALL.get(name);
        if (found == null) {
            throw new IOException("unknown case " + name);
        }
        found.run(new Cases(node, addresses.get(0), addresses.subList(1, addresses.size()), said));
    }

    private void handshake() throws IOException {
        Connection connection = node.dial(to);
        Ping.rounds(connection, 1);
        said.with("remote", connection.peer());
    }

    private void ping() throws IOException {
        Ping.rounds(node.dial(to), 100);
        said.with("rounds", 100);
    }

    private void identify() throws IOException {
        Identify heard = Identify.ask(node.dial(to));
        said.with("agent", heard.agent()).with("protocols", heard.protocols()).with("observed", heard.observed());
    }

    private void echo() throws IOException, InterruptedException {
        said.with("bytes", MEBIBYTE).with("same", isEchoed(open(node.dial(to), "echo"), MEBIBYTE));
    }

    private void streams() throws IOException, InterruptedException {
        Connection connection = node.dial(to);
        List<Callable<Boolean>> uses = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            Stream stream = open(connection, "echo");
            uses.add(() -> isEchoed(stream, KIBIBYTE));
        }
        long same = together(uses).stream().filter(is -> is).count();
        said.with("streams", uses.size()).with("same", same);
    }

    private void bulk() throws IOException, InterruptedException {
        int size = 64 * MEBIBYTE;
        Connection connection = node.dial(to);
        said.with("bytes", size).with("up", isSunk(connection, size)).with("down", isSourced(connection, size, 0));
    }

    private void reset() throws IOException {
        Connection connection = node.dial(to);
        Stream stream = open(connection, "reset");
        Stream.Cut ended = provoke(stream);
        said.with("cut", ended != null).with("read_code", ended == null ? null : ended.code);
        try {
            while (true) {
                stream.out.write(new byte[KIBIBYTE]);
            }
        } catch (IOException error) {
            // Netty does not report the code of a STOP_SENDING.
            said.with("write_code", null);
        }
        watched(connection).reset(CODE);
        Ping.rounds(connection, 1);
    }

    private void close() throws IOException {
        Stream.Cut ended = provoke(open(node.dial(to), "close"));
        said.with("cut", ended != null).with("code", ended == null ? null : ended.code);
        watched(node.dial(to)).connection.close(CODE);
    }

    private void idle() throws IOException, InterruptedException {
        int seconds = 35;
        Connection connection = node.dial(to);
        Ping.rounds(connection, 1);
        TimeUnit.SECONDS.sleep(seconds);
        Ping.rounds(connection, 1);
        said.with("seconds", seconds);
    }

    private void load() throws IOException, InterruptedException {
        Connection connection = node.dial(to);
        int streams = 300;
        List<Object> results = together(List.of(
                () -> isSunk(connection, 16 * MEBIBYTE),
                () -> {
                    int same = 0;
                    for (int i = 0; i < streams; i++) {
                        same += isEchoed(open(connection, "echo"), KIBIBYTE) ? 1 : 0;
                    }
                    return same;
                }));
        said.with("up", results.get(0)).with("streams", streams).with("same", results.get(1));
    }

    private void slow() throws IOException, InterruptedException {
        int size = 16 * MEBIBYTE;
        said.with("bytes", size).with("down", isSourced(node.dial(to), size, 2));
    }

    private void note() throws IOException {
        int size = 64 * KIBIBYTE;
        Connection connection = node.dial(to);
        Stream stream = open(connection, "note");
        stream.out.write(new byte[size]);
        stream.close();
        Ping.rounds(connection, 1);
        said.with("bytes", size);
    }

    /** Streams whose listener reads a byte and ends both directions at once. */
    private void stop() throws IOException {
        Connection connection = node.dial(to);
        int streams = 1100, answered = 0, closed = 0;
        for (; closed < streams; closed++) {
            Stream stream = open(connection, "stop");
            stream.out.write(1);
            answered += Arrays.equals(stream.in.readAllBytes(), new byte[] {1}) ? 1 : 0;
            try {
                stream.out.write(new byte[KIBIBYTE]);
            } catch (IOException error) {
                // The peer has stopped reading, so this write may fail.
            }
            stream.close();
        }
        Ping.rounds(connection, 1);
        said.with("streams", streams).with("answered", answered).with("closed", closed);
    }

    private void early() throws IOException {
        for (int i = 0; i < 10; i++) {
            node.dial(to).close(0);
        }
        Ping.rounds(node.dial(to), 1);
        said.with("rounds", 10);
    }

    private void many() throws IOException, InterruptedException {
        List<Callable<Connection>> dials = new ArrayList<>();
        dials.add(() -> node.dial(to));
        more.forEach(address -> dials.add(() -> node.dial(address)));
        List<Callable<String>> pings = new ArrayList<>();
        for (Connection connection : together(dials)) {
            pings.add(() -> {
                Ping.rounds(connection, 1);
                return connection.peer();
            });
        }
        said.with("remotes", together(pings));
    }

    private void back() throws IOException {
        Stream stream = open(node.dial(to), "back");
        stream.out.write(1);
        stream.finish();
        byte[] answer = stream.in.readAllBytes();
        said.with("answer", answer.length == 1 ? answer[0] : null);
    }

    private void listening() throws IOException {
        var loopback = new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0);
        Address own = node.listen(loopback, false, peer -> { });
        said.with("addrs", List.of(own.toString()));
        identify();
    }

    private void perf() throws IOException {
        int size = 8 * MEBIBYTE;
        Stream stream = node.dial(to).open(Services.PERF);
        new DataOutputStream(stream.out).writeLong(size);
        Pattern.write(stream.out, size);
        stream.finish();
        said.with("sent", size).with("received", stream.in.transferTo(OutputStream.nullOutputStream()));
    }

    /** Waits for the runner, which kills the listener after "ready", starts it again and writes a line. */
    private void restart() throws IOException, InterruptedException {
        Ping.rounds(node.dial(to), 1);
        Line.of("event", "ready").tell();
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        long began = System.nanoTime();
        for (int tries = 1; ; tries++) {
            try {
                Ping.rounds(node.dial(to), 1);
                long milliseconds = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
                said.with("seconds", milliseconds / 1000.0).with("tries", tries);
                return;
            } catch (IOException error) {
                System.err.println("restart: " + error);
                TimeUnit.MILLISECONDS.sleep(500);
            }
        }
    }

    private static Stream open(Connection connection, String protocol) throws IOException {
        return connection.open(Services.name(protocol));
    }

    /** Writes random bytes, finishes, and concurrently reads the answer to its end. */
    private static boolean isEchoed(Stream stream, int size) throws IOException, InterruptedException {
        byte[] sent = new byte[size];
        ThreadLocalRandom.current().nextBytes(sent);
        List<byte[]> results = together(List.of(
                () -> {
                    stream.out.write(sent);
                    stream.finish();
                    return sent;
                },
                stream.in::readAllBytes));
        return Arrays.equals(results.get(0), results.get(1));
    }

    private static boolean isSunk(Connection connection, int size) throws IOException {
        Stream stream = open(connection, "sink");
        byte[] digest = Pattern.write(stream.out, size);
        stream.finish();
        return Arrays.equals(digest, stream.in.readAllBytes());
    }

    /** @param pause seconds in which nothing is read */
    private static boolean isSourced(Connection connection, int size, int pause)
            throws IOException, InterruptedException {
        Stream stream = open(connection, "source");
        new DataOutputStream(stream.out).writeLong(size);
        stream.finish();
        TimeUnit.SECONDS.sleep(pause);
        byte[] digest = Pattern.digest(stream.in, size);
        return Arrays.equals(digest, stream.in.readAllBytes());
    }

    /** Writes the byte that makes the listener cut the stream. Returns null if it ended in order. */
    private static Stream.Cut provoke(Stream stream) throws IOException {
        stream.out.write(1);
        try {
            stream.in.transferTo(OutputStream.nullOutputStream());
            return null;
        } catch (Stream.Cut cut) {
            return cut;
        }
    }

    /** A stream of whose end the listener tells the runner. */
    private static Stream watched(Connection connection) throws IOException {
        Stream stream = open(connection, "watch");
        stream.out.write(1);
        Wire.exactly(stream.in, 1);
        return stream;
    }

    /** Runs them at once, each in a thread. Throws what the first that failed threw. */
    private static <T> List<T> together(List<Callable<T>> tasks) throws IOException, InterruptedException {
        ExecutorService threads = Executors.newFixedThreadPool(tasks.size());
        try {
            List<T> results = new ArrayList<>();
            for (Future<T> future : threads.invokeAll(tasks)) {
                results.add(future.get());
            }
            return results;
        } catch (ExecutionException error) {
            throw new IOException(error.getCause().getMessage(), error.getCause());
        } finally {
            threads.shutdown();
        }
    }
}
