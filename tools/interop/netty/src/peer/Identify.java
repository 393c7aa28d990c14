package peer;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/** /ipfs/id/1.0.0: what a peer tells of itself, and what it sees of the other. */
record Identify(String agent, List<String> protocols, String observed) {
    static final String PROTOCOL = "/ipfs/id/1.0.0";

    private static final int PUBLIC_KEY = 1, LISTENING = 2, PROTOCOLS = 3, OBSERVED = 4, VERSION = 5, AGENT = 6;

    static Identify ask(Connection connection) throws IOException {
        Stream stream = connection.open(PROTOCOL);
        String agent = null;
        String observed = null;
        List<String> protocols = new ArrayList<>();
        for (Wire.Field field : Wire.fields(Wire.prefixed(stream.in))) {
            switch (field.number()) {
                case AGENT -> agent = field.text();
                case PROTOCOLS -> protocols.add(field.text());
                case OBSERVED -> observed = Address.textOf(field.bytes());
                default -> { }
            }
        }
        stream.close();
        return new Identify(agent, protocols, observed);
    }

    static void answer(Stream stream, Node node, Set<String> protocols) throws IOException {
        Wire answer = new Wire()
                .field(PUBLIC_KEY, node.key.encoded())
                .field(OBSERVED, stream.connection.address().bytes())
                .field(VERSION, "ipfs/0.1.0")
                .field(AGENT, "libp2p-quic-interop-netty");
        if (node.listening() != null) {
            answer.field(LISTENING, node.listening().bytes());
        }
        protocols.forEach(each -> answer.field(PROTOCOLS, each));
        stream.out.write(new Wire().prefixed(answer.bytes()).bytes());
        stream.finish();
    }
}
