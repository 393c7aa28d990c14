package peer;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Set;

/** multistream-select 1.0: which protocol a stream speaks. */
final class Multistream {
    private static final String HEADER = "/multistream/1.0.0";
    private static final String NOT_AVAILABLE = "na";

    private Multistream() { }

    /** Asks for one protocol. Throws IOException if the peer does not speak it. */
    static void select(Stream stream, String protocol) throws IOException {
        stream.out.write(new Wire().raw(line(HEADER)).raw(line(protocol)).bytes());
        expect(HEADER, read(stream));
        expect(protocol, read(stream));
    }

    /** Answers until the peer asks for a protocol that is known here, and tells which one that is. */
    static String accept(Stream stream, Set<String> known) throws IOException {
        expect(HEADER, read(stream));
        stream.out.write(line(HEADER));
        while (true) {
            String asked = read(stream);
            if (known.contains(asked)) {
                stream.out.write(line(asked));
                return asked;
            }
            stream.out.write(line(NOT_AVAILABLE));
        }
    }

    private static void expect(String wanted, String said) throws IOException {
        if (!said.equals(wanted)) {
            throw new IOException("the peer answered " + said + " to " + wanted);
        }
    }

    private static byte[] line(String text) {
        return new Wire().prefixed((text + "\n").getBytes(StandardCharsets.UTF_8)).bytes();
    }

    private static String read(Stream stream) throws IOException {
        return new String(Wire.prefixed(stream.in), StandardCharsets.UTF_8).stripTrailing();
    }
}
