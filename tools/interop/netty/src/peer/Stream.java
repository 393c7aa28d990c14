package peer;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.quic.QuicStreamChannel;
import io.netty.handler.codec.quic.QuicStreamFrame;
import io.netty.handler.codec.quic.QuicStreamResetException;
import io.netty.util.concurrent.Future;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * A QUIC stream as Java's blocking streams. Netty reads only bytes that a caller waits for, and
 * a write waits for the peer's credit, so there is back-pressure in both directions. Every call
 * waits for Netty's thread, so no call may be made on it.
 */
final class Stream extends ChannelInboundHandlerAdapter {
    /** It ended otherwise than by the peer's finishing it. */
    static final class Cut extends IOException {
        /** The code of the reset or close, or null if Netty shows none. */
        final Long code;

        Cut(String what, Long code, Throwable cause) {
            super(code == null ? what : what + " with code " + code, cause);
            this.code = code;
        }
    }

    static final int BLOCK = 1 << 16;

    final Connection connection;
    final InputStream in = new In();
    final OutputStream out = new Out();

    private final QuicStreamChannel channel;
    /** Frames, and after them the Cut if there is one. */
    private final BlockingQueue<Object> arrived = new LinkedBlockingQueue<>();

    Stream(Connection connection, QuicStreamChannel channel) {
        this.connection = connection;
        this.channel = channel;
        channel.config().setAutoRead(false);
        // Only frames distinguish the end of a stream from the end of its connection.
        channel.config().setReadFrames(true);
        channel.pipeline().addLast(this);
    }

    /** No more will be written. */
    void finish() throws IOException {
        done(channel.shutdownOutput());
    }

    /** Abandons both directions. */
    void reset(int code) throws IOException {
        done(channel.shutdown(code));
        done(channel.close());
    }

    /** No more will be written or read; what was written still arrives. */
    void close() throws IOException {
        done(channel.close());
    }

    /** Waits for something that Netty does. */
    static <T> T done(Future<T> future) throws IOException {
        try {
            future.await();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new InterruptedIOException();
        }
        if (!future.isSuccess()) {
            throw new IOException(future.cause().toString(), future.cause());
        }
        return future.getNow();
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object frame) {
        arrived.add(frame);
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
        Long code = cause instanceof QuicStreamResetException reset ? reset.applicationProtocolCode() : null;
        arrived.add(new Cut("the stream was reset", code, cause));
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) {
        arrived.add(new Cut("the connection ended", connection.code(), null));
    }

    private final class In extends InputStream {
        private ByteBuf unread = Unpooled.EMPTY_BUFFER;
        private boolean isFinished;
        private Cut cut;

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] into, int offset, int size) throws IOException {
            if (size == 0) {
                return 0;
            }
            while (!unread.isReadable()) {
                if (isFinished) {
                    return -1;
                }
                if (cut != null) {
                    throw cut;
                }
                await();
            }
            int count = Math.min(size, unread.readableBytes());
            unread.readBytes(into, offset, count);
            return count;
        }

        private void await() throws IOException {
            unread.release();
            unread = Unpooled.EMPTY_BUFFER;
            channel.read();
            try {
                Object next = arrived.take();
                if (next instanceof QuicStreamFrame frame) {
                    unread = frame.content();
                    isFinished = frame.hasFin();
                } else {
                    cut = (Cut) next;
                }
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new InterruptedIOException();
            }
        }
    }

    private final class Out extends OutputStream {
        @Override
        public void write(int one) throws IOException {
            write(new byte[] {(byte) one}, 0, 1);
        }

        @Override
        public void write(byte[] from, int offset, int size) throws IOException {
            done(channel.writeAndFlush(Unpooled.wrappedBuffer(from, offset, size)));
        }
    }
}
