package peer;

import java.io.IOException;
import java.util.Arrays;
import java.util.concurrent.ThreadLocalRandom;

/** /ipfs/ping/1.0.0, the asking side: 32 random bytes there and back, as often as wanted. */
final class Ping {
    static final String PROTOCOL = "/ipfs/ping/1.0.0";

    private static final int SIZE = 32;

    private Ping() { }

    static void rounds(Connection connection, int rounds) throws IOException {
        Stream stream = connection.open(PROTOCOL);
        for (int i = 0; i < rounds; i++) {
            byte[] sent = new byte[SIZE];
            ThreadLocalRandom.current().nextBytes(sent);
            stream.out.write(sent);
            if (!Arrays.equals(sent, Wire.exactly(stream.in, SIZE))) {
                throw new IOException("the answer to a ping has other bytes");
            }
        }
        stream.close();
    }
}
