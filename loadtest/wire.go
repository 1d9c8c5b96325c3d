package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	// answerBytes is the room for an answer at first, and maxAnswerBytes at most.
	answerBytes    = 1 << 10
	maxAnswerBytes = 4 << 20
)

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	body   []byte // valid until the next exchange
	closes bool   // no further request on this connection
}

// wire is one connection to the endpoint. It knows the HTTP/1.1 that a sensor meets: one request at a time, answers with
// a Content-Length.
type wire struct {
	conn     net.Conn
	timeout  time.Duration
	deadline time.Time // that is set on conn
	buf      []byte
}

// connect dials; an earlier connection is closed.
func (w *wire) connect(ctx context.Context, address string) (err error) {
	w.close()
	d := net.Dialer{Timeout: w.timeout}
	w.conn, err = d.DialContext(ctx, "tcp", address)
	w.deadline = time.Time{}
	return err
}

func (w *wire) connected() bool { return w.conn != nil }

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// allow sets the deadline of an exchange that begins now. Setting it costs as much as a good part of the exchange, so it
// is done once in a tenth of the timeout, which is therefore up to a tenth late.
func (w *wire) allow(now time.Time) error {
	if w.deadline.Sub(now) >= w.timeout {
		return nil
	}
	w.deadline = now.Add(w.timeout + w.timeout/10)
	return w.conn.SetDeadline(w.deadline)
}

// send writes a request.
func (w *wire) send(request []byte) error {
	_, err := w.conn.Write(request)
	return err
}

var errMalformed = errors.New("answer is not the HTTP that is understood here")

// receive reads an answer. After an error the connection must be closed.
func (w *wire) receive() (answer, error) {
	if w.buf == nil {
		w.buf = make([]byte, answerBytes)
	}
	var a answer
	end := -1 // of the answer, once its head is read
	for n, head := 0, 0; ; {
		if n == len(w.buf) {
			if n >= maxAnswerBytes {
				return a, fmt.Errorf("%w: longer than %d bytes", errMalformed, maxAnswerBytes)
			}
			w.buf = append(w.buf, make([]byte, n)...)
		}
		m, err := w.conn.Read(w.buf[n:])
		if n += m; end < 0 {
			if i := bytes.Index(w.buf[:n], []byte("\r\n\r\n")); i >= 0 {
				var length int
				if length, err = a.parseHead(w.buf[:i+2]); err != nil {
					return a, err
				}
				head = i + 4
				end = head + length
			}
		}
		switch {
		case end >= 0 && n > end:
			return a, fmt.Errorf("%w: bytes behind its end", errMalformed)
		case n == end:
			a.body = w.buf[head:end]
			return a, nil
		case err == io.EOF && n > 0:
			return a, io.ErrUnexpectedEOF
		case err != nil:
			return a, err
		}
	}
}

// parseHead reads the status line and those fields that matter; head ends with a line break.
func (a *answer) parseHead(head []byte) (length int, err error) {
	// HTTP/1.1 200 OK
	if len(head) < 14 || string(head[:7]) != "HTTP/1." || head[8] != ' ' {
		return 0, fmt.Errorf("%w: no status line", errMalformed)
	}
	if a.status, err = strconv.Atoi(string(head[9:12])); err != nil || a.status < 200 || a.status >= maxStatus {
		return 0, fmt.Errorf("%w: no final status", errMalformed)
	}
	a.closes = head[7] == '0'
	length = -1
	for {
		eol := bytes.IndexByte(head, '\n')
		head = head[eol+1:]
		if len(head) == 0 {
			break
		}
		if head[0]|0x20 != 'c' { // both fields begin with it, few others do
			continue
		}
		name, value, _ := bytes.Cut(head[:bytes.IndexByte(head, '\n')], []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, fmt.Errorf("%w: bad Content-Length", errMalformed)
			}
		case len(name) == len("Connection") && bytes.EqualFold(name, []byte("Connection")):
			a.closes = a.closes || bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return 0, fmt.Errorf("%w: no Content-Length", errMalformed)
	}
	if length > maxAnswerBytes {
		return 0, fmt.Errorf("%w: longer than %d bytes", errMalformed, maxAnswerBytes)
	}
	return length, nil
}

// failureOf sorts an error of send or receive.
func failureOf(err error) failure {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failTimeout
	case errors.Is(err, errMalformed):
		return failMalformed
	}
	return failLost
}
