package peer;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URL;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.jar.Attributes;
import java.util.jar.Manifest;

/**
 * The peer of Netty's QUIC codec. It has the command line of tools/interop/README.md. Node listens
 * and dials, Certificate creates and verifies certificates, Stream and Connection wrap Netty's
 * objects, Services has the listener's protocols and Cases the dialer.
 */
public final class Main {
    private static final String USAGE = """
            peer about
            peer listen [--key TYPE] [--seed HEX] [--ip 4|6] [--port N] [--certificate KIND] [--retry always]
            peer dial [--key TYPE] [--certificate KIND] [--name SNI] ADDRESS CASE [ADDRESS...]""";

    private final Map<String, String> options = new HashMap<>();
    private final List<String> positional = new ArrayList<>();

    private Main(String[] arguments) {
        for (int i = 0; i < arguments.length; i++) {
            if (arguments[i].startsWith("--") && i + 1 < arguments.length) {
                options.put(arguments[i].substring(2), arguments[++i]);
            } else {
                positional.add(arguments[i]);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Main main = new Main(arguments);
        switch (main.positional.isEmpty() ? "" : main.positional.remove(0)) {
            case "about" -> about();
            case "listen" -> main.listen();
            case "dial" -> main.dial();
            default -> {
                System.err.println(USAGE);
                System.exit(2);
            }
        }
    }

    private static void about() throws IOException {
        Attributes netty = manifest();
        Line.of("program", "Netty QUIC " + netty.getValue("Implementation-Version"))
                .with("stack", "quiche " + revision(netty, "Quiche") + ", BoringSSL " + revision(netty, "BoringSSL"))
                .with("keys", names(HostKey.Type.values()))
                .with("certificates", names(Certificate.Kind.values()).stream().skip(1).toList())
                .with("can", List.of("reset", "reset code", "close code", "both roles", "perf", "server name",
                        "retry"))
                .tell();
    }

    private void listen() throws GeneralSecurityException, IOException {
        String host = options.getOrDefault("ip", "4").equals("6") ? "::1" : "127.0.0.1";
        int port = Integer.parseInt(options.getOrDefault("port", "0"));
        Node node = node();
        Address address = node.listen(new InetSocketAddress(InetAddress.getByName(host), port),
                options.containsKey("retry"),
                peer -> Line.of("event", "connected").with("peer", peer).tell());
        Line.of("peer", node.peer).with("addrs", List.of(address.toString())).tell();
        System.in.transferTo(OutputStream.nullOutputStream());
    }

    private void dial() throws GeneralSecurityException, IOException, InterruptedException {
        List<Address> addresses = new ArrayList<>();
        String wanted = positional.remove(1);
        for (String address : positional) {
            addresses.add(Address.parse(address));
        }
        Node node = node();
        Line said = Line.of("ok", true).with("self", node.peer);
        try {
            Cases.run(wanted, node, addresses, said);
        } catch (IOException error) {
            said.with("ok", false).with("error", error.getMessage());
        }
        said.tell();
    }

    private Node node() throws GeneralSecurityException, IOException {
        String type = options.getOrDefault("key", "ed25519").toUpperCase(Locale.ROOT);
        byte[] seed = new byte[HostKey.SEED_SIZE];
        new SecureRandom().nextBytes(seed);
        if (options.containsKey("seed")) {
            seed = HexFormat.of().parseHex(options.get("seed"));
        }
        String kind = options.getOrDefault("certificate", "usual").toUpperCase(Locale.ROOT);
        return new Node(HostKey.make(HostKey.Type.valueOf(type), seed), Certificate.Kind.valueOf(kind),
                options.get("name"));
    }

    /** What Netty's native library says of itself. */
    private static Attributes manifest() throws IOException {
        for (URL each : Collections.list(Main.class.getClassLoader().getResources("META-INF/MANIFEST.MF"))) {
            try (InputStream in = each.openStream()) {
                Attributes found = new Manifest(in).getMainAttributes();
                if (found.getValue("Quiche-Revision") != null) {
                    return found;
                }
            }
        }
        throw new IOException("Netty's native QUIC library is not on the class path");
    }

    private static List<String> names(Enum<?>[] all) {
        return Arrays.stream(all).map(each -> each.name().toLowerCase(Locale.ROOT)).toList();
    }

    private static String revision(Attributes manifest, String part) {
        return manifest.getValue(part + "-Revision").substring(0, 8);
    }
}
