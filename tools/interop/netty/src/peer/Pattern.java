package peer;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** The bytes 0, 1, ... 250, 0, 1, ... of which long transfers are made, and their SHA-256. */
final class Pattern {
    private static final int LENGTH = 251;
    private static final byte[] BLOCK = new byte[LENGTH * (Stream.BLOCK / LENGTH)];

    static {
        for (int i = 0; i < BLOCK.length; i++) {
            BLOCK[i] = (byte) (i % LENGTH);
        }
    }

    private Pattern() { }

    /** Writes {@code size} bytes and returns their digest. */
    static byte[] write(OutputStream out, long size) throws IOException {
        MessageDigest digest = sha256();
        for (long left = size; left > 0; left -= BLOCK.length) {
            int count = (int) Math.min(left, BLOCK.length);
            digest.update(BLOCK, 0, count);
            out.write(BLOCK, 0, count);
        }
        return digest.digest();
    }

    /** The digest of everything up to the end. */
    static byte[] digest(InputStream in) throws IOException {
        MessageDigest digest = sha256();
        in.transferTo(new DigestOutputStream(OutputStream.nullOutputStream(), digest));
        return digest.digest();
    }

    /** The digest of the next bytes. */
    static byte[] digest(InputStream in, long size) throws IOException {
        MessageDigest digest = sha256();
        for (long left = size; left > 0; ) {
            byte[] block = Wire.exactly(in, (int) Math.min(left, Stream.BLOCK));
            digest.update(block);
            left -= block.length;
        }
        return digest.digest();
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError("every Java has SHA-256", error);
        }
    }
}
