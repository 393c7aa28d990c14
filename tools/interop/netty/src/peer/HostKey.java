package peer;

import java.io.IOException;
import java.math.BigInteger;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.Provider;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1Integer;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.DERSequence;
import org.bouncycastle.asn1.edec.EdECObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.asn1.sec.SECNamedCurves;
import org.bouncycastle.asn1.sec.SECObjectIdentifiers;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.asn1.x9.X9ObjectIdentifiers;
import org.bouncycastle.jcajce.interfaces.EdDSAPrivateKey;
import org.bouncycastle.jce.interfaces.ECPublicKey;
import org.bouncycastle.jce.provider.BouncyCastleProvider;

/** A key that is a peer's identity, in libp2p's encoding. The rules are in the peer-ids specification. */
final class HostKey {
    /** In the order of the numbers that the protobuf gives them. */
    enum Type {
        RSA("SHA256withRSA"),
        ED25519("Ed25519"),
        SECP256K1("SHA256withECDSA"),
        ECDSA("SHA256withECDSA");

        final String signature;

        Type(String signature) {
            this.signature = signature;
        }
    }

    static final int SEED_SIZE = 32;

    static final Provider PROVIDER = new BouncyCastleProvider();
    private static final AlgorithmIdentifier ED25519 = new AlgorithmIdentifier(EdECObjectIdentifiers.id_Ed25519);
    private static final AlgorithmIdentifier SECP256K1 =
            new AlgorithmIdentifier(X9ObjectIdentifiers.id_ecPublicKey, SECObjectIdentifiers.secp256k1);
    private static final int LONGEST_INLINE = 42;
    private static final String ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

    private final Type type;
    private final KeyPair pair;

    private HostKey(Type type, KeyPair pair) {
        this.type = type;
        this.pair = pair;
    }

    /** @param seed the Ed25519 key; no other type is made from it */
    static HostKey make(Type type, byte[] seed) throws GeneralSecurityException, IOException {
        return new HostKey(type, switch (type) {
            case ED25519 -> ed25519(seed);
            case RSA -> {
                KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA", PROVIDER);
                generator.initialize(2048);
                yield generator.generateKeyPair();
            }
            case SECP256K1 -> elliptic("secp256k1");
            case ECDSA -> elliptic("secp256r1");
        });
    }

    /** The public key as a protobuf: the type, and the bytes that the type has. */
    byte[] encoded() {
        PublicKey key = pair.getPublic();
        byte[] bytes = switch (type) {
            case ED25519 -> SubjectPublicKeyInfo.getInstance(key.getEncoded()).getPublicKeyData().getBytes();
            case SECP256K1 -> ((ECPublicKey) key).getQ().getEncoded(true);
            case RSA, ECDSA -> key.getEncoded();
        };
        return new Wire().field(1, type.ordinal()).field(2, bytes).bytes();
    }

    byte[] sign(byte[] message) throws GeneralSecurityException, IOException {
        Signature signature = Signature.getInstance(type.signature, PROVIDER);
        signature.initSign(pair.getPrivate());
        signature.update(message);
        return type == Type.SECP256K1 ? withLowS(signature.sign()) : signature.sign();
    }

    String peer() throws GeneralSecurityException {
        return peerOf(encoded());
    }

    /** Whether the encoded public key made this signature. */
    static boolean hasSigned(byte[] encoded, byte[] message, byte[] signed)
            throws GeneralSecurityException, IOException {
        int number = -1;
        byte[] bytes = {};
        for (Wire.Field field : Wire.fields(encoded)) {
            switch (field.number()) {
                case 1 -> number = (int) field.value();
                case 2 -> bytes = field.bytes();
                default -> { }
            }
        }
        if (number < 0 || number >= Type.values().length) {
            throw new IOException("unknown type of key: " + number);
        }
        Type type = Type.values()[number];
        PublicKey key = BouncyCastleProvider.getPublicKey(switch (type) {
            case ED25519 -> new SubjectPublicKeyInfo(ED25519, bytes);
            case SECP256K1 -> new SubjectPublicKeyInfo(SECP256K1, bytes);
            case RSA, ECDSA -> SubjectPublicKeyInfo.getInstance(bytes);
        });
        Signature signature = Signature.getInstance(type.signature, PROVIDER);
        signature.initVerify(key);
        signature.update(message);
        return signature.verify(signed);
    }

    /** A multihash of the encoded key, which is the key itself if it is short. */
    static String peerOf(byte[] encoded) throws GeneralSecurityException {
        boolean isInline = encoded.length <= LONGEST_INLINE;
        byte[] digest = isInline ? encoded : MessageDigest.getInstance("SHA-256").digest(encoded);
        return base58(new Wire().varint(isInline ? 0x00 : 0x12).prefixed(digest).bytes());
    }

    static String base58(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        BigInteger base = BigInteger.valueOf(ALPHABET.length());
        for (BigInteger rest = new BigInteger(1, bytes); rest.signum() > 0; rest = rest.divide(base)) {
            text.append(ALPHABET.charAt(rest.mod(base).intValue()));
        }
        for (int i = 0; i < bytes.length && bytes[i] == 0; i++) {
            text.append(ALPHABET.charAt(0));
        }
        return text.reverse().toString();
    }

    /** Of the two values that s can have, the specification takes the lower one (BIP 62), and peers insist on it. */
    private static byte[] withLowS(byte[] signed) throws IOException {
        var values = ASN1Sequence.getInstance(signed);
        BigInteger s = ASN1Integer.getInstance(values.getObjectAt(1)).getValue();
        BigInteger order = SECNamedCurves.getByOID(SECObjectIdentifiers.secp256k1).getN();
        var low = new ASN1Integer(s.min(order.subtract(s)));
        return new DERSequence(new ASN1Encodable[] {values.getObjectAt(0), low}).getEncoded();
    }

    private static KeyPair ed25519(byte[] seed) throws IOException {
        var key = (EdDSAPrivateKey) BouncyCastleProvider.getPrivateKey(
                new PrivateKeyInfo(ED25519, new DEROctetString(seed)));
        return new KeyPair(key.getPublicKey(), key);
    }

    private static KeyPair elliptic(String curve) throws GeneralSecurityException {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", PROVIDER);
        generator.initialize(new ECGenParameterSpec(curve));
        return generator.generateKeyPair();
    }
}
