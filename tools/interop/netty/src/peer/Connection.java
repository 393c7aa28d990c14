package peer;

import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.handler.codec.quic.QuicChannel;
import io.netty.handler.codec.quic.QuicConnectionCloseEvent;
import io.netty.handler.codec.quic.QuicStreamChannel;
import io.netty.handler.codec.quic.QuicStreamType;
import io.netty.handler.ssl.SslHandshakeCompletionEvent;
import io.netty.util.AttributeKey;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.security.cert.CertificateException;
import java.util.function.Consumer;
import javax.net.ssl.SSLPeerUnverifiedException;

/** A QUIC connection with a peer that has proven who it is. */
final class Connection extends ChannelInboundHandlerAdapter {
    private static final AttributeKey<Connection> SELF = AttributeKey.valueOf(Connection.class, "self");

    private final QuicChannel channel;
    private final Consumer<String> onProven;
    private volatile Long code;

    /** @param onProven hears who the peer is, on Netty's thread, when the handshake is over */
    Connection(QuicChannel channel, Consumer<String> onProven) {
        this.channel = channel;
        this.onProven = onProven;
        channel.attr(SELF).set(this);
        channel.pipeline().addLast(this);
    }

    static Connection of(QuicChannel channel) {
        return channel.attr(SELF).get();
    }

    /** The peer id that the peer has proven. */
    String peer() throws IOException {
        try {
            return Certificate.provenBy(channel.sslEngine().getSession().getPeerCertificates());
        } catch (SSLPeerUnverifiedException | CertificateException error) {
            throw new IOException(error);
        }
    }

    Address address() {
        return new Address((InetSocketAddress) channel.remoteSocketAddress(), null);
    }

    /** A new stream on which both sides speak this protocol. */
    Stream open(String protocol) throws IOException {
        Stream[] made = new Stream[1];
        Stream.done(channel.createStream(QuicStreamType.BIDIRECTIONAL, new ChannelInitializer<QuicStreamChannel>() {
            @Override
            protected void initChannel(QuicStreamChannel stream) {
                made[0] = new Stream(Connection.this, stream);
            }
        }));
        Multistream.select(made[0], protocol);
        return made[0];
    }

    void close(int code) throws IOException {
        Stream.done(channel.close(true, code, Unpooled.EMPTY_BUFFER));
    }

    /** The code with which the peer closed this connection, or null. */
    Long code() {
        return code;
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) throws IOException {
        if (event instanceof QuicConnectionCloseEvent close && close.isApplicationClose()) {
            code = (long) close.error();
        } else if (event instanceof SslHandshakeCompletionEvent handshake && handshake.isSuccess()) {
            onProven.accept(peer());
        }
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
        System.err.println("connection: " + cause);
    }
}
