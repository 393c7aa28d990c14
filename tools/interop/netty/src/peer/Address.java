package peer;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;

/**
 * The only kind of multiaddr that is dialed here, /ip4 or /ip6, /udp, /quic-v1 and /p2p.
 *
 * @param peer the peer id, or null if the address has none
 */
record Address(InetSocketAddress socket, String peer) {
    // Codes of https://github.com/multiformats/multiaddr, protocols.csv.
    private static final int IP4 = 4, TCP = 6, IP6 = 41, UDP = 273, P2P = 421, QUIC_V1 = 461;

    static Address parse(String text) throws IOException {
        String[] parts = text.split("/");
        boolean isQuic = parts.length == 8 && parts[1].matches("ip[46]") && parts[3].equals("udp")
                && parts[5].equals("quic-v1") && parts[6].equals("p2p");
        if (!isQuic) {
            throw new IOException(text + " is not /ip4|ip6/HOST/udp/PORT/quic-v1/p2p/ID");
        }
        return new Address(new InetSocketAddress(parts[2], Integer.parseInt(parts[4])), parts[7]);
    }

    @Override
    public String toString() {
        String ip = (isIp4() ? "/ip4/" : "/ip6/") + socket.getAddress().getHostAddress();
        return ip + "/udp/" + socket.getPort() + "/quic-v1" + (peer == null ? "" : "/p2p/" + peer);
    }

    /** The binary form, without the peer id. */
    byte[] bytes() {
        byte[] port = ByteBuffer.allocate(2).putShort((short) socket.getPort()).array();
        return new Wire().varint(isIp4() ? IP4 : IP6).raw(socket.getAddress().getAddress())
                .varint(UDP).raw(port).varint(QUIC_V1).bytes();
    }

    /** What another peer calls an address, as text. */
    static String textOf(byte[] multiaddr) throws IOException {
        ByteArrayInputStream in = new ByteArrayInputStream(multiaddr);
        StringBuilder text = new StringBuilder();
        while (in.available() > 0) {
            int code = (int) Wire.varint(in);
            switch (code) {
                case IP4 -> text.append("/ip4/").append(ip(Wire.exactly(in, 4)));
                case IP6 -> text.append("/ip6/").append(ip(Wire.exactly(in, 16)));
                case TCP -> text.append("/tcp/").append(port(Wire.exactly(in, 2)));
                case UDP -> text.append("/udp/").append(port(Wire.exactly(in, 2)));
                case QUIC_V1 -> text.append("/quic-v1");
                case P2P -> text.append("/p2p/").append(HostKey.base58(Wire.prefixed(in)));
                default -> throw new IOException("unknown part " + code + " of an address that starts with " + text);
            }
        }
        return text.toString();
    }

    private boolean isIp4() {
        return socket.getAddress() instanceof Inet4Address;
    }

    private static String ip(byte[] bytes) throws IOException {
        return InetAddress.getByAddress(bytes).getHostAddress();
    }

    private static int port(byte[] bytes) {
        return Short.toUnsignedInt(ByteBuffer.wrap(bytes).getShort());
    }
}
