// Command image packs one binary into an OCI archive of one or more
// images that `ctr images import` reads. They share the binary and differ in
// the environment they bring. Equal input gives an equal archive. A binary that
// needs more gets it by -file, under its own path or another one.
//
//	image -binary PATH [-file PATH[=PATH] ...] -image "REF [NAME=VALUE ...]" [-image ...] -o OUT.tar
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

type object map[string]any

type file struct {
	name string
	mode int64
	body []byte
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blob(b []byte) file {
	return file{"blobs/sha256/" + strings.TrimPrefix(digest(b), "sha256:"), 0o644, b}
}

func describe(kind string, b []byte) object {
	return object{"mediaType": "application/vnd.oci.image." + kind, "digest": digest(b), "size": len(b)}
}

func archive(files []file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			log.Fatal(err)
		}
		must(w.Write(f.body))
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return buf.Bytes()
}

func main() {
	var images, others list
	binary := flag.String("binary", "", "binary to pack")
	flag.Var(&others, "file", "absolute path of another file to pack, and where it goes if elsewhere; may be given again")
	out := flag.String("o", "", "archive to write")
	flag.Var(&images, "image", "reference and environment of an image; may be given again")
	flag.Parse()
	if *binary == "" || *out == "" || len(images) == 0 {
		flag.Usage()
		os.Exit(2)
	}

	name := filepath.Base(*binary)
	packed := []file{{name, 0o755, must(os.ReadFile(*binary))}}
	for _, path := range others {
		from, to, moved := strings.Cut(path, "=")
		if !moved {
			to = from
		}
		mode := int64(0o644) | int64(must(os.Stat(from)).Mode()&0o111)
		packed = append(packed, file{strings.TrimPrefix(to, "/"), mode, must(os.ReadFile(from))})
	}
	slices.SortFunc(packed, func(a, b file) int { return strings.Compare(a.name, b.name) })
	layer := archive(packed)
	files := []file{{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, blob(layer)}
	var manifests []object
	for _, image := range images {
		words := strings.Fields(image)
		config := must(json.Marshal(object{
			"architecture": runtime.GOARCH,
			"os":           "linux",
			"config":       object{"Entrypoint": []string{"/" + name}, "Env": words[1:], "User": "65532:65532"},
			"rootfs":       object{"type": "layers", "diff_ids": []string{digest(layer)}},
		}))
		manifest := must(json.Marshal(object{
			"schemaVersion": 2,
			"mediaType":     "application/vnd.oci.image.manifest.v1+json",
			"config":        describe("config.v1+json", config),
			"layers":        []object{describe("layer.v1.tar", layer)},
		}))
		entry := describe("manifest.v1+json", manifest)
		entry["annotations"] = object{"io.containerd.image.name": words[0]}
		manifests = append(manifests, entry)
		files = append(files, blob(config), blob(manifest))
	}
	index := must(json.Marshal(object{"schemaVersion": 2, "manifests": manifests}))
	files = append(files, file{"index.json", 0o644, index})
	if err := os.WriteFile(*out, archive(files), 0o644); err != nil {
		log.Fatal(err)
	}
}
