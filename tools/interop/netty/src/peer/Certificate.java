package peer;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.security.spec.ECGenParameterSpec;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.Set;
import javax.net.ssl.X509TrustManager;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.DERSequence;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.CertException;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.operator.OperatorCreationException;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;

/**
 * The certificate with which a peer proves its host key in TLS, and the verification of another peer's.
 * The rules are in libp2p's TLS specification.
 */
record Certificate(PrivateKey key, X509Certificate chain) {
    /** What peers do, or must not do, besides what is usual. */
    enum Kind {
        /** A P-256 key, as everybody has. */
        USUAL,
        P384,
        RSA,
        /** libp2p's extension is critical. */
        CRITICAL,
        EXPIRED,
        /** Without libp2p's extension. */
        BARE,
        /** With an unknown critical extension. */
        FOREIGN
    }

    private static final ASN1ObjectIdentifier PROOF = new ASN1ObjectIdentifier("1.3.6.1.4.1.53594.1.1");
    private static final ASN1ObjectIdentifier UNKNOWN = new ASN1ObjectIdentifier("1.3.6.1.4.1.53594.99");
    private static final byte[] PREFIX = "libp2p-tls-handshake:".getBytes(StandardCharsets.US_ASCII);

    /** Clocks of peers differ, and the certificate is used as long as the program runs. */
    private static final Duration BEFORE = Duration.ofHours(1), AFTER = Duration.ofDays(36_500);

    static Certificate make(HostKey host, Kind kind) throws GeneralSecurityException, IOException {
        KeyPairGenerator generator = KeyPairGenerator.getInstance(kind == Kind.RSA ? "RSA" : "EC");
        if (kind == Kind.RSA) {
            generator.initialize(2048);
        } else {
            generator.initialize(new ECGenParameterSpec(kind == Kind.P384 ? "secp384r1" : "secp256r1"));
        }
        KeyPair pair = generator.generateKeyPair();
        var proof = new DERSequence(new ASN1Encodable[] {
            new DEROctetString(host.encoded()),
            new DEROctetString(host.sign(signed(pair.getPublic().getEncoded()))),
        });
        Instant now = Instant.now();
        Instant end = kind == Kind.EXPIRED ? now.minusSeconds(1) : now.plus(AFTER);
        var name = new X500Name("CN=libp2p");
        var builder = new JcaX509v3CertificateBuilder(name, new BigInteger(63, new SecureRandom()),
                Date.from(now.minus(BEFORE)), Date.from(end), name, pair.getPublic());
        if (kind != Kind.BARE) {
            builder.addExtension(PROOF, kind == Kind.CRITICAL, proof);
        }
        if (kind == Kind.FOREIGN) {
            builder.addExtension(UNKNOWN, true, proof);
        }
        try {
            var signer = new JcaContentSignerBuilder(kind == Kind.RSA ? "SHA256withRSA" : "SHA256withECDSA").build(pair.getPrivate());
            var chain = new JcaX509CertificateConverter().getCertificate(builder.build(signer));
            return new Certificate(pair.getPrivate(), chain);
        } catch (OperatorCreationException error) {
            throw new GeneralSecurityException(error);
        }
    }

    /**
     * The peer id of a chain. Throws for every invalid chain; after any exception Netty refuses the peer.
     * Java's own parser is not used, because it refuses an issuer without a name, which rust-libp2p
     * sends.
     */
    static String provenBy(java.security.cert.Certificate[] chain) throws CertificateException {
        if (chain.length != 1) {
            throw new CertificateException("a chain of " + chain.length + " certificates, not of one");
        }
        try {
            var certificate = new X509CertificateHolder(chain[0].getEncoded());
            SubjectPublicKeyInfo key = certificate.getSubjectPublicKeyInfo();
            Extension extension = certificate.getExtension(PROOF);
            must(certificate.isValidOn(new Date()), "it is expired or not valid yet");
            must(Set.of(PROOF).containsAll(certificate.getCriticalExtensionOIDs()), "a critical extension is unknown");
            var verifier = new JcaContentVerifierProviderBuilder().setProvider(HostKey.PROVIDER).build(key);
            must(certificate.isSignatureValid(verifier), "it was not signed with its own key");
            must(extension != null, "the libp2p extension is missing");
            var proof = ASN1Sequence.getInstance(extension.getParsedValue());
            byte[] host = ASN1OctetString.getInstance(proof.getObjectAt(0)).getOctets();
            byte[] signature = ASN1OctetString.getInstance(proof.getObjectAt(1)).getOctets();
            must(HostKey.hasSigned(host, signed(key.getEncoded()), signature), "the host key has not signed its key");
            return HostKey.peerOf(host);
        } catch (GeneralSecurityException | OperatorCreationException | CertException | IOException error) {
            throw new CertificateException(error);
        }
    }

    private static void must(boolean condition, String otherwise) throws CertificateException {
        if (!condition) {
            throw new CertificateException("the certificate is refused: " + otherwise);
        }
    }

    private static byte[] signed(byte[] subjectPublicKeyInfo) {
        return new Wire().raw(PREFIX).raw(subjectPublicKeyInfo).bytes();
    }

    /**
     * Accepts the expected peer only.
     *
     * @param expected a peer id; null accepts every verified peer
     */
    record Judge(String expected) implements X509TrustManager {
        @Override
        public void checkClientTrusted(X509Certificate[] chain, String algorithm) throws CertificateException {
            String proven = provenBy(chain);
            if (expected != null && !expected.equals(proven)) {
                throw new CertificateException("this is " + proven + " and not " + expected);
            }
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String algorithm) throws CertificateException {
            checkClientTrusted(chain, algorithm);
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return new X509Certificate[0];
        }
    }
}
