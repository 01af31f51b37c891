package receiver_test

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// byZstd makes hr carry message compressed by zstd, in a frame that declares its
// length, as vmagent does. It returns the body.
func byZstd(hr *http.Request, message []byte) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	b := enc.EncodeAll(message, nil)
	hr.Header.Set("Content-Encoding", "zstd")
	setBody(hr, b)
	return b
}

// zstdStream compresses into a frame that does not declare its length.
func zstdStream(message []byte) []byte {
	var b bytes.Buffer
	enc, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	half := len(message) / 2
	for _, part := range [][]byte{message[:half], message[half:]} {
		if _, err := enc.Write(part); err != nil {
			panic(err)
		}
		if err := enc.Flush(); err != nil {
			panic(err)
		}
	}
	if err := enc.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// zstdHeader begins a frame of one segment that declares its length.
func zstdHeader(length uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, length)
}

// TestZstdFrames: RFC 8878 lets a body be several frames, and frames that are to
// be skipped lie between.
func TestZstdFrames(t *testing.T) {
	message := mixed(proto.V1)
	half := len(message) / 2
	skipped := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	body := append(bytes.Clone(skipped), zstdStream(message[:half])...)
	body = append(append(body, skipped...), zstdStream(message[half:])...)
	s := newSetup(t)
	hr, recorded := record(newRequest(proto.V1, nil))
	hr.Header.Set("Content-Encoding", "zstd")
	setBody(hr, body)
	require.Equal(t, http.StatusNoContent, s.serve(hr).Code)
	require.Len(t, recorded.stored(), mixedCounts.Total())
}

// TestHandshake: vmagents before v1.116 ask by POST whether zstd is spoken, and
// want a 1.
func TestHandshake(t *testing.T) {
	s := newSetup(t)
	for _, c := range []struct {
		method, query string
		status        int
		body          string
	}{
		{http.MethodPost, "?get_vm_proto_version=1", http.StatusOK, "1"},
		{http.MethodGet, "?get_vm_proto_version=1", http.StatusOK, "1"},
		{http.MethodGet, "", http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		{http.MethodGet, "?get_vm_proto_version=", http.StatusMethodNotAllowed, "Method Not Allowed\n"},
	} {
		w := s.serve(httptest.NewRequest(c.method, "/api/v1/write"+c.query, nil))
		require.Equal(t, c.status, w.Code)
		require.Equal(t, c.body, w.Body.String())
	}
	require.Empty(t, s.counters(t, "weir_receiver_requests_total"), "nothing was written")
}
