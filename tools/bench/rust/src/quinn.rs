//! Raw quinn as published, with AES-128-GCM first. Only the server has a certificate, and the client
//! accepts any certificate whose key signed the handshake: less work than libp2p requires.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CipherSuite, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    version::TLS13,
};
use socket2::{Domain, Socket, Type};

use crate::net::{self, Handshake, Outcome};

/// The requested socket buffers, the same as in our engine.
const SOCKET_BUFFER: usize = 4 << 20;

pub struct Node {
    endpoint: Endpoint,
}

impl Node {
    pub fn new(has_defaults: bool) -> Outcome<Self> {
        let provider = Arc::new(provider());
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.into()], key.into())?;
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        // As in libp2p, every handshake is a full one.
        client.resumption = Resumption::disabled();
        let mut transport = TransportConfig::default();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        if !has_defaults {
            transport
                .stream_receive_window(10_000_000_u32.into())
                .receive_window(15_000_000_u32.into())
                .send_window(10_000_000)
                .max_concurrent_bidi_streams(256_u32.into())
                .max_concurrent_uni_streams(0_u32.into())
                .datagram_receive_buffer_size(None);
            socket.set_recv_buffer_size(SOCKET_BUFFER)?;
            socket.set_send_buffer_size(SOCKET_BUFFER)?;
        }
        let transport = Arc::new(transport);
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
        server.transport_config(transport.clone());
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
        client.transport_config(transport);
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>()?.into())?;
        let runtime = Arc::new(TokioRuntime);
        let mut endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(server),
            socket.into(),
            runtime,
        )?;
        endpoint.set_default_client_config(client);
        Ok(Self { endpoint })
    }
}

fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl net::Node for Node {
    type Connection = Connection;

    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("it is bound")
    }

    async fn accept(&self) -> Outcome<Handshake<Connection>> {
        let incoming = self
            .endpoint
            .accept()
            .await
            .ok_or("the endpoint is closed")?;
        Ok(Box::pin(async { Ok(incoming.await?) }))
    }

    async fn dial(&self, to: SocketAddr) -> Outcome<Connection> {
        Ok(self.endpoint.connect(to, "localhost")?.await?)
    }
}

impl net::Connection for Connection {
    type Stream = Io;

    async fn open(&self) -> Outcome<Io> {
        let (send, receive) = self.open_bi().await?;
        Ok(Io(send, receive))
    }

    async fn accept(&self) -> Outcome<Io> {
        let (send, receive) = self.accept_bi().await?;
        Ok(Io(send, receive))
    }
}

pub struct Io(SendStream, RecvStream);

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.1), cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(Pin::new(&mut self.0), cx)
    }
}
