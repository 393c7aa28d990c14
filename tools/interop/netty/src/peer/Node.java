package peer;

import io.netty.bootstrap.Bootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.handler.codec.quic.InsecureQuicTokenHandler;
import io.netty.handler.codec.quic.QuicChannel;
import io.netty.handler.codec.quic.QuicClientCodecBuilder;
import io.netty.handler.codec.quic.QuicCodecBuilder;
import io.netty.handler.codec.quic.QuicServerCodecBuilder;
import io.netty.handler.codec.quic.QuicSslContext;
import io.netty.handler.codec.quic.QuicSslContextBuilder;
import io.netty.handler.codec.quic.QuicStreamChannel;
import io.netty.handler.ssl.ClientAuth;
import io.netty.util.AttributeKey;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** A node with a host key: it listens, dials, and serves on every connection, inbound or outbound. */
final class Node {
    private static final AttributeKey<String> EXPECTED = AttributeKey.valueOf(Node.class, "expected");
    private static final int DIAL_MILLISECONDS = 5_000;
    private static final long MEBIBYTE = 1 << 20;

    final String peer;
    final HostKey key;

    private final Certificate certificate;
    private final String serverName;
    private final Services services = new Services(this);
    private final EventLoopGroup loop =
            new MultiThreadIoEventLoopGroup(1, new DefaultThreadFactory("quic", true), NioIoHandler.newFactory());
    private Channel dialer;
    private Address listening;

    /** @param serverName the SNI of its dials; null for none, as libp2p's TLS specification asks */
    Node(HostKey key, Certificate.Kind kind, String serverName) throws GeneralSecurityException, IOException {
        this.key = key;
        this.peer = key.peer();
        this.certificate = Certificate.make(key, kind);
        this.serverName = serverName;
    }

    /**
     * @param isRetrying whether dialers must validate their address first, by a Retry packet
     * @param onProven gets the peer id of every accepted connection
     */
    Address listen(InetSocketAddress at, boolean isRetrying, Consumer<String> onProven) throws IOException {
        QuicSslContext tls = QuicSslContextBuilder.forServer(certificate.key(), null, certificate.chain())
                .clientAuth(ClientAuth.REQUIRE)
                .trustManager(new Certificate.Judge(null))
                .applicationProtocols("libp2p")
                .build();
        Channel socket = bind(at, limits(new QuicServerCodecBuilder())
                .tokenHandler(isRetrying ? InsecureQuicTokenHandler.INSTANCE : null)
                .sslContext(tls)
                .handler(connections(onProven))
                .streamHandler(streams())
                .build());
        listening = new Address((InetSocketAddress) socket.localAddress(), peer);
        return listening;
    }

    /** Where it listens, or null. */
    Address listening() {
        return listening;
    }

    Connection dial(Address to) throws IOException {
        QuicChannel channel = Stream.done(QuicChannel.newBootstrap(dialer())
                .attr(EXPECTED, to.peer())
                .option(ChannelOption.CONNECT_TIMEOUT_MILLIS, DIAL_MILLISECONDS)
                .remoteAddress(to.socket())
                .handler(connections(peer -> { }))
                .streamHandler(streams())
                .connect());
        return Connection.of(channel);
    }

    /** One socket for all dials. */
    private synchronized Channel dialer() throws IOException {
        if (dialer == null) {
            dialer = bind(new InetSocketAddress(0), limits(new QuicClientCodecBuilder())
                    .sslEngineProvider(channel -> {
                        QuicSslContext tls = dialing(channel.attr(EXPECTED).get());
                        // An engine without a name sends no SNI.
                        return serverName == null
                                ? tls.newEngine(channel.alloc())
                                : tls.newEngine(channel.alloc(), serverName, 0);
                    })
                    .build());
        }
        return dialer;
    }

    private QuicSslContext dialing(String expected) {
        return QuicSslContextBuilder.forClient()
                .keyManager(certificate.key(), null, certificate.chain())
                .trustManager(new Certificate.Judge(expected))
                // The certificate has a peer id and no host name.
                .endpointIdentificationAlgorithm("")
                .applicationProtocols("libp2p")
                .build();
    }

    private Channel bind(InetSocketAddress at, ChannelHandler codec) throws IOException {
        var bound = new Bootstrap().group(loop).channel(NioDatagramChannel.class).handler(codec).bind(at);
        Stream.done(bound);
        return bound.channel();
    }

    private static <B extends QuicCodecBuilder<B>> B limits(B builder) {
        // quiche sends no keep-alives, so the idle timeout is long.
        return builder.maxIdleTimeout(60, TimeUnit.SECONDS)
                .initialMaxData(15 * MEBIBYTE)
                .initialMaxStreamDataBidirectionalLocal(10 * MEBIBYTE)
                .initialMaxStreamDataBidirectionalRemote(10 * MEBIBYTE)
                .initialMaxStreamsBidirectional(256);
    }

    private static ChannelHandler connections(Consumer<String> onProven) {
        return new ChannelInitializer<QuicChannel>() {
            @Override
            protected void initChannel(QuicChannel channel) {
                new Connection(channel, onProven);
            }
        };
    }

    private ChannelHandler streams() {
        return new ChannelInitializer<QuicStreamChannel>() {
            @Override
            protected void initChannel(QuicStreamChannel channel) {
                services.serve(new Stream(Connection.of(channel.parent()), channel));
            }
        };
    }
}
