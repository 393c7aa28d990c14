package peer;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Varints, and as much of protobuf as libp2p's two small messages need. */
final class Wire {
    /** A field of a message: {@code value} of a varint, or {@code bytes} of anything with a length. */
    record Field(int number, long value, byte[] bytes) {
        String text() {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }

    private static final int VARINT = 0, LENGTH = 2;
    private static final int MOST_BYTES = 1 << 16;

    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    Wire varint(long value) {
        for (; value > 0x7f; value >>>= 7) {
            out.write((int) value | 0x80);
        }
        out.write((int) value);
        return this;
    }

    Wire raw(byte[] bytes) {
        out.writeBytes(bytes);
        return this;
    }

    Wire prefixed(byte[] bytes) {
        return varint(bytes.length).raw(bytes);
    }

    Wire field(int number, long value) {
        return varint((long) number << 3 | VARINT).varint(value);
    }

    Wire field(int number, byte[] bytes) {
        return varint((long) number << 3 | LENGTH).prefixed(bytes);
    }

    Wire field(int number, String text) {
        return field(number, text.getBytes(StandardCharsets.UTF_8));
    }

    byte[] bytes() {
        return out.toByteArray();
    }

    static long varint(InputStream in) throws IOException {
        long value = 0;
        for (int shift = 0; shift < 63; shift += 7) {
            int next = in.read();
            if (next < 0) {
                throw new EOFException("the stream ended within a number");
            }
            value |= (long) (next & 0x7f) << shift;
            if (next < 0x80) {
                return value;
            }
        }
        throw new IOException("a number has more than 9 bytes");
    }

    static byte[] prefixed(InputStream in) throws IOException {
        long size = varint(in);
        if (size > MOST_BYTES) {
            throw new IOException("a message of " + size + " bytes");
        }
        return exactly(in, (int) size);
    }

    static byte[] exactly(InputStream in, int size) throws IOException {
        byte[] bytes = in.readNBytes(size);
        if (bytes.length < size) {
            throw new EOFException("the stream ended after " + bytes.length + " of " + size + " bytes");
        }
        return bytes;
    }

    static List<Field> fields(byte[] message) throws IOException {
        InputStream in = new ByteArrayInputStream(message);
        List<Field> fields = new ArrayList<>();
        while (in.available() > 0) {
            long tag = varint(in);
            int number = (int) (tag >>> 3);
            switch ((int) tag & 7) {
                case VARINT -> fields.add(new Field(number, varint(in), null));
                case LENGTH -> fields.add(new Field(number, 0, prefixed(in)));
                default -> throw new IOException("field " + number + " is neither a number nor bytes");
            }
        }
        return fields;
    }
}
